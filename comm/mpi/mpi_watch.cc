#include "comm/mpi/mpi_watch.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "comm/call.h"
#include "comm/mpi/give_way.h"
#include "comm/mpi/main_thread_stream.h"
#include "comm/mpi/mpi_status.h"
#include "comm/patience.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

using Clock = std::chrono::steady_clock;

enum Kind : int32_t { kHello, kRollCall, kHere, kBroken };
constexpr int kNoticeTag = 0;

int PlaceOf(int rank, absl::Span<const int> members) {
  return static_cast<int>(std::find(members.begin(), members.end(), rank) -
                          members.begin());
}

}  // namespace

// Travels as plain bytes, the text only with kBroken.
struct MpiWatch::Notice {
  static constexpr int kLongestText = 1000;

  int32_t kind = kHello;
  int32_t roll = 0;       // With kRollCall and kHere: the caller's.
  int32_t code = 0;       // Of the error, with kBroken.
  int32_t lost_rank = 0;  // 1 if a rank did not answer.
  char text[kLongestText] = "";
};
constexpr int kBytesBeforeText = 4 * sizeof(int32_t);

// MPI reads the notice until the requests are done.
struct MpiWatch::Sending {
  Notice notice;
  std::vector<MPI_Request> requests;
};

MpiWatch::MpiWatch(MPI_Comm comm, Hosts hosts, absl::Duration timeout,
                   bool any_thread)
    : timeout_(timeout),
      grace_(std::min(timeout / 4, absl::Seconds(2))),
      any_thread_(any_thread),
      comm_(comm),
      hosts_(std::move(hosts)),
      size_(static_cast<int>(hosts_.colors.size())),
      heard_(size_, -1) {
  MPI_Comm_rank(comm_, &rank_);
}

MpiWatch::~MpiWatch() {
  // Leaked: MPI may read them until it is finalised.
  if (!sending_.empty()) new std::list<Sending>(std::move(sending_));
}

absl::Status MpiWatch::Connect() {
  // Of which most take a descriptor, and 1,024 are all that a process may have.
  constexpr int kMostConnections = 512;
  std::vector<int> elsewhere;
  for (int i = 1; i < size_; ++i) {
    const int rank = (rank_ + i) % size_;
    if (hosts_.colors[rank] != hosts_.colors[rank_]) elsewhere.push_back(rank);
  }
  if (elsewhere.empty() || size_ > kMostConnections) return absl::OkStatus();
  {
    std::lock_guard<std::mutex> lock(telling_);
    Send(Notice(), elsewhere);
  }
  const auto missing = [&] {
    std::vector<int> ranks;
    for (int rank : elsewhere) {
      if (heard_[rank] < 0) ranks.push_back(rank);
    }
    return ranks;
  };
  Patience patience(timeout_);
  for (const auto start = Clock::now(); !missing().empty();) {
    ZEROMINI_RETURN_IF_ERROR(Look());
    if (patience.IsOver()) {
      lost_a_rank_ = true;
      const std::vector<int> ranks = missing();
      Break(absl::DeadlineExceededError(absl::StrCat(
          "mpi: rank ", rank_, " (host ", hosts_.names[rank_],
          ") could not be connected with ", DescribeRanks(ranks), " (",
          HostsOf(ranks), ") within ", absl::FormatDuration(timeout_))));
      return error();
    }
    GiveWay(Clock::now() - start);
  }
  return absl::OkStatus();
}

absl::Status MpiWatch::Free() {
  std::lock_guard<std::mutex> lock(telling_);
  if (freed_) return absl::OkStatus();
  freed_ = true;
  // MPI keeps a communicator while any of its requests has not been completed
  // by us. What was sent is small and its receivers are here, so they are done.
  const auto start = Clock::now();
  for (Patience patience(timeout_); !ForgetSent();) {
    if (patience.IsOver()) {
      return absl::DeadlineExceededError(
          "mpi: what was sent to other ranks does not leave");
    }
    GiveWay(Clock::now() - start);
  }
  return FromMpi(MPI_Comm_free(&comm_), "MPI_Comm_free");
}

bool MpiWatch::ForgetSent() {
  sending_.remove_if([](Sending& sending) {
    int done = 0;
    MPI_Testall(static_cast<int>(sending.requests.size()),
                sending.requests.data(), &done, MPI_STATUSES_IGNORE);
    return done != 0;
  });
  return sending_.empty();
}

void MpiWatch::Send(const Notice& notice, absl::Span<const int> ranks) {
  ForgetSent();
  Sending& sending = sending_.emplace_back(Sending{notice, {}});
  const int bytes = notice.kind == kBroken ? sizeof(Notice) : kBytesBeforeText;
  for (int rank : ranks) {
    if (rank == rank_) continue;
    sending.requests.push_back(MPI_REQUEST_NULL);
    MPI_Isend(&sending.notice, bytes, MPI_BYTE, rank, kNoticeTag, comm_,
              &sending.requests.back());
  }
}

bool MpiWatch::MayCallMpi() const {
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized == 0 && (any_thread_ || OnMainThread());
}

void MpiWatch::Tell() {
  std::lock_guard<std::mutex> lock(telling_);
  if (told_ || freed_) return;
  told_ = true;
  Notice notice;
  notice.kind = kBroken;
  const absl::Status why = broken_.status();
  notice.code = static_cast<int32_t>(why.code());
  notice.lost_rank = lost_a_rank_ ? 1 : 0;
  std::strncpy(notice.text, std::string(why.message()).c_str(),
               Notice::kLongestText - 1);
  std::vector<int> all(size_);
  std::iota(all.begin(), all.end(), 0);
  Send(notice, all);
}

void MpiWatch::Break(const absl::Status& why) {
  broken_.Set(why);
  if (MayCallMpi()) Tell();
}

absl::Status MpiWatch::error() {
  if (broken_.is_set() && MayCallMpi()) Tell();
  return broken_.status();
}

void MpiWatch::Receive() {
  for (;;) {
    Notice notice;
    int source = 0;
    {
      // Under the lock, for Free() of another group must not come between.
      std::lock_guard<std::mutex> lock(telling_);
      if (freed_) return;
      int there = 0;
      MPI_Status status;
      MPI_Iprobe(MPI_ANY_SOURCE, kNoticeTag, comm_, &there, &status);
      if (there == 0) return;
      source = status.MPI_SOURCE;
      MPI_Recv(&notice, sizeof(notice), MPI_BYTE, source, kNoticeTag, comm_,
               MPI_STATUS_IGNORE);
      if (notice.kind == kBroken) told_ = true;  // By the sender.
    }
    Take(notice, source);
  }
}

void MpiWatch::Take(const Notice& notice, int source) {
  if (notice.kind == kRollCall) {
    // We are about to wait, or do.
    Notice here;
    here.kind = kHere;
    here.roll = notice.roll;
    std::lock_guard<std::mutex> lock(telling_);
    if (!freed_) Send(here, {source});
  } else if (notice.kind == kBroken) {
    if (notice.lost_rank != 0) lost_a_rank_ = true;
    const std::string text(notice.text,
                           strnlen(notice.text, Notice::kLongestText));
    broken_.Set(absl::Status(static_cast<absl::StatusCode>(notice.code), text));
  } else {
    heard_[source] = std::max(heard_[source], notice.roll);
  }
}

absl::Status MpiWatch::Look() {
  if (size_ > 1) Receive();
  if (!broken_.is_set()) return absl::OkStatus();
  Tell();
  return broken_.status();
}

absl::Status MpiWatch::Until(
    const Wait& wait, const std::function<absl::StatusOr<Progress>()>& look) {
  constexpr int kTurnsPerLook = 8;
  // All waiting for each other is no state that mends itself.
  constexpr int kRollCalls = 2;
  auto last = Clock::now();
  absl::Duration waited;
  int roll_calls = 0;
  for (Patience patience(timeout_ - grace_);;) {
    for (int turn = 1; !patience.IsOver(); ++turn) {
      if (broken_.is_set()) return Look();
      const absl::StatusOr<Progress> progress = look();
      if (!progress.ok()) {
        Break(progress.status());
        return Look();
      }
      if (progress->done) return absl::OkStatus();
      const auto now = Clock::now();
      if (progress->came > 0) last = now;
      // Also what moves MPI's own messages on, while we wait for others.
      if (turn % kTurnsPerLook == 0 || now - last > kSoon) {
        ZEROMINI_RETURN_IF_ERROR(Look());
      }
      if (progress->came == 0) GiveWay(now - last);
    }
    waited += patience.spent();
    ZEROMINI_RETURN_IF_ERROR(CallTheRoll(wait, waited));
    if (++roll_calls == kRollCalls) return GiveUp(wait, waited);
    patience = Patience(timeout_ - grace_);
  }
}

absl::Status MpiWatch::CallTheRoll(const Wait& wait, absl::Duration waited) {
  ++roll_;
  {
    std::lock_guard<std::mutex> lock(telling_);
    Notice call;
    call.kind = kRollCall;
    call.roll = roll_;
    if (!freed_) Send(call, wait.members);
  }
  heard_[rank_] = roll_;
  const auto is_here = [&](int member) { return heard_[member] >= roll_; };
  const auto called = Clock::now();
  Patience grace(grace_);
  while (!std::all_of(wait.members.begin(), wait.members.end(), is_here) &&
         !grace.IsOver()) {
    ZEROMINI_RETURN_IF_ERROR(Look());
    GiveWay(Clock::now() - called);
  }
  std::vector<int> absent;
  std::vector<int> absent_members;
  for (size_t r = 0; r < wait.members.size(); ++r) {
    if (is_here(wait.members[r])) continue;
    absent.push_back(static_cast<int>(r));
    absent_members.push_back(wait.members[r]);
  }
  if (absent.empty()) return absl::OkStatus();
  lost_a_rank_ = true;
  Break(absl::DeadlineExceededError(
      absl::StrCat(Waited(wait, waited + grace.spent()), DescribeRanks(absent),
                   " did not come (", HostsOf(absent_members), ")")));
  return Look();
}

absl::Status MpiWatch::GiveUp(const Wait& wait, absl::Duration waited) {
  std::string text =
      absl::StrCat(Waited(wait, waited), "all ranks are there now");
  const std::vector<int> pending =
      wait.pending ? wait.pending() : std::vector<int>();
  if (!pending.empty()) {
    absl::StrAppend(&text, ", what was missing is from ",
                    DescribeRanks(pending));
  }
  Break(absl::DeadlineExceededError(text));
  return Look();
}

std::string MpiWatch::Waited(const Wait& wait, absl::Duration waited) const {
  return absl::StrCat(
      "mpi: rank ", PlaceOf(rank_, wait.members), " (host ",
      hosts_.names[rank_], ") waited ",
      absl::FormatDuration(absl::Trunc(waited, absl::Milliseconds(1))), " in ",
      wait.what(), "; ");
}

std::string MpiWatch::HostsOf(absl::Span<const int> ranks) const {
  std::vector<std::string> names;
  for (int rank : ranks) {
    const std::string& name = hosts_.names[rank];
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  return absl::StrCat(names.size() == 1 ? "host " : "hosts ",
                      absl::StrJoin(names, ", "));
}

}  // namespace zeromini
