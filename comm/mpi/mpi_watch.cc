#include "comm/mpi/mpi_watch.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "comm/call.h"
#include "comm/mpi/give_way.h"
#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

using Clock = std::chrono::steady_clock;

enum Kind : int32_t { kRollCall, kBroken };
constexpr int kNoticeTag = 0;
constexpr int kLongestText = 1000;

int PlaceOf(int rank, absl::Span<const int> members) {
  return static_cast<int>(std::find(members.begin(), members.end(), rank) -
                          members.begin());
}

absl::Duration Since(Clock::time_point start) {
  return absl::FromChrono(Clock::now() - start);
}

}  // namespace

// Travels as plain bytes.
struct MpiWatch::Notice {
  int32_t kind = kRollCall;
  int32_t code = 0;       // Of the error, with kBroken.
  int32_t lost_rank = 0;  // 1 if a rank did not answer.
  char text[kLongestText] = "";
};

MpiWatch::MpiWatch(absl::Duration timeout, bool any_thread)
    : timeout_(timeout),
      grace_(std::min(timeout / 4, absl::Seconds(2))),
      any_thread_(any_thread) {}

absl::StatusOr<std::shared_ptr<MpiWatch>> MpiWatch::Create(
    MPI_Comm comm, absl::Duration timeout, bool any_thread) {
  auto watch = std::shared_ptr<MpiWatch>(new MpiWatch(timeout, any_thread));
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_dup(comm, &watch->comm_), "MPI_Comm_dup"));
  MPI_Comm_set_errhandler(watch->comm_, MPI_ERRORS_RETURN);
  MPI_Comm_rank(watch->comm_, &watch->rank_);
  MPI_Comm_size(watch->comm_, &watch->size_);
  char name[MPI_MAX_PROCESSOR_NAME] = "";
  int length = 0;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Get_processor_name(name, &length), "MPI_Get_processor_name"));
  std::vector<char> names(watch->size_ * sizeof(name));
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Allgather(name, sizeof(name), MPI_BYTE, names.data(),
                            sizeof(name), MPI_BYTE, watch->comm_),
              "MPI_Allgather"));
  for (int r = 0; r < watch->size_; ++r) {
    watch->hosts_.emplace_back(names.data() + r * sizeof(name));
  }
  watch->answered_.resize(watch->size_, 0);
  return watch;
}

MpiWatch::~MpiWatch() = default;

absl::Status MpiWatch::Free() {
  std::lock_guard<std::mutex> lock(telling_);
  if (freed_) return absl::OkStatus();
  freed_ = true;
  return FromMpi(MPI_Comm_free(&comm_), "MPI_Comm_free");
}

void MpiWatch::Send(const Notice& notice) {
  // Leaked, once or twice in a process: MPI may read it until it is finalised.
  const Notice* kept = new Notice(notice);
  for (int i = 1; i < size_; ++i) {
    MPI_Request request = MPI_REQUEST_NULL;
    MPI_Isend(kept, sizeof(Notice), MPI_BYTE, (rank_ + i) % size_, kNoticeTag,
              comm_, &request);
    if (request != MPI_REQUEST_NULL) MPI_Request_free(&request);
  }
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
               kLongestText - 1);
  Send(notice);
}

void MpiWatch::Break(const absl::Status& why) {
  broken_.Set(why);
  if (any_thread_) Tell();
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
    answered_[source] = 1;
    if (notice.kind == kRollCall) {
      roll_called_ = true;
      continue;
    }
    if (notice.lost_rank != 0) lost_a_rank_ = true;
    notice.text[kLongestText - 1] = '\0';
    broken_.Set(
        absl::Status(static_cast<absl::StatusCode>(notice.code), notice.text));
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
  const auto start = Clock::now();
  auto last = start;
  for (int turn = 1;; ++turn) {
    if (broken_.is_set()) return Look();
    const absl::StatusOr<Progress> progress = look();
    if (!progress.ok()) {
      Break(progress.status());
      return Look();
    }
    if (progress->done) return absl::OkStatus();
    const auto now = Clock::now();
    if (progress->came > 0) last = now;
    // Also what moves MPI's own messages on, while we wait for something else.
    if (turn % kTurnsPerLook == 0 || now - last > kSoon) {
      ZEROMINI_RETURN_IF_ERROR(Look());
    }
    if (roll_called_ || absl::FromChrono(now - start) > timeout_ - grace_) {
      return CallTheRoll(wait, start);
    }
    if (progress->came == 0) GiveWay(now - last);
  }
}

absl::Status MpiWatch::CallTheRoll(const Wait& wait, Clock::time_point start) {
  {
    std::lock_guard<std::mutex> lock(telling_);
    if (!freed_) Send(Notice());
  }
  answered_[rank_] = 1;
  const auto all_there = [&] {
    return std::all_of(wait.members.begin(), wait.members.end(),
                       [&](int member) { return answered_[member] != 0; });
  };
  const auto called = Clock::now();
  while (!all_there() && Since(called) < grace_) {
    ZEROMINI_RETURN_IF_ERROR(Look());
    GiveWay(Clock::now() - called);
  }
  std::vector<int> absent;
  std::vector<int> absent_members;
  for (size_t r = 0; r < wait.members.size(); ++r) {
    if (answered_[wait.members[r]] != 0) continue;
    absent.push_back(static_cast<int>(r));
    absent_members.push_back(wait.members[r]);
  }
  std::string text = absl::StrCat(
      "mpi: rank ", PlaceOf(rank_, wait.members), " (host ", hosts_[rank_],
      ") waited ",
      absl::FormatDuration(absl::Trunc(Since(start), absl::Milliseconds(1))),
      " in ", wait.what(), "; ");
  if (!absent.empty()) {
    lost_a_rank_ = true;
    absl::StrAppend(&text, DescribeRanks(absent), " did not come (",
                    HostsOf(absent_members), ")");
  } else {
    const std::vector<int> pending = wait.pending ? wait.pending() : absent;
    absl::StrAppend(&text, "all ranks are there now",
                    pending.empty() ? "" : ", what was missing is from ",
                    pending.empty() ? "" : DescribeRanks(pending));
  }
  Break(absl::DeadlineExceededError(text));
  return Look();
}

std::string MpiWatch::HostsOf(absl::Span<const int> ranks) const {
  std::vector<std::string> names;
  for (int rank : ranks) {
    if (std::find(names.begin(), names.end(), hosts_[rank]) == names.end()) {
      names.push_back(hosts_[rank]);
    }
  }
  return absl::StrCat(names.size() == 1 ? "host " : "hosts ",
                      absl::StrJoin(names, ", "));
}

}  // namespace zeromini
