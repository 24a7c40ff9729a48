#include "comm/mpi/mpi_link.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/log.h"

namespace zeromini {
namespace {

// What one step stages: small enough that it stays in a cache between the copy
// and the sum, large enough to hide what a step costs by itself.
int64_t ChunkBytes(int size) {
  constexpr int64_t kStep = int64_t{1} << 20;
  constexpr int64_t kLeast = int64_t{16} << 10;
  constexpr int64_t kMost = int64_t{256} << 10;
  constexpr int64_t kLine = 64;
  return std::clamp(kStep / size / kLine * kLine, kLeast, kMost);
}

constexpr int kStepsBetweenHosts = 4;

// On stderr once in a process: what is short stays short.
void WarnOfNoWindow(const LogSink& log, const std::vector<int>& alone,
                    int64_t bytes, int error) {
  static std::atomic<bool> warned = false;
  if (!log && warned.exchange(true)) return;
  Log(log, LogLevel::kWarning,
      absl::StrCat("mpi: ", DescribeRanks(alone), " share no memory (",
                   std::strerror(error), "; ", bytes,
                   " bytes a rank in /dev/shm) and exchange by messages, which "
                   "is slower",
                   error == ENOSPC
                       ? ". Make /dev/shm larger: docker's --shm-size"
                       : ""));
}

}  // namespace

absl::StatusOr<std::unique_ptr<MpiLink>> MpiLink::Create(
    MpiSetup& setup, MPI_Comm comm, std::vector<int> members,
    absl::Span<const int> colors, std::shared_ptr<MpiWatch> watch) {
  auto link = std::unique_ptr<MpiLink>(new MpiLink());
  link->comm_ = comm;
  link->hosts_ = HostMap::FromColors(colors);
  link->members_ = std::move(members);
  link->watch_ = std::move(watch);
  link->log_ = setup.log();
  link->watch_->Join();
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_rank(comm, &link->rank_), "MPI_Comm_rank"));
  ZEROMINI_RETURN_IF_ERROR(link->ShareMemory(setup));
  for (int host = 0; host < link->hosts_.hosts(); ++host) {
    link->greetings_of_.emplace_back(link->hosts_.ranks_of(host).size());
  }
  return link;
}

// Ends, because each time round there are more hosts.
absl::Status MpiLink::ShareMemory(MpiSetup& setup) {
  for (;;) {
    depth_ = one_host() ? 2 : kStepsBetweenHosts;
    chunk_bytes_ = ChunkBytes(size());
    const int64_t bytes = depth_ * size() * chunk_bytes_;
    ZEROMINI_ASSIGN_OR_RETURN(HostWindow::Made made,
                              HostWindow::Create(setup, comm_, hosts_, bytes));
    window_ = std::move(made.window);
    if (window_ != nullptr) return absl::OkStatus();
    std::vector<int> colors;
    std::vector<int> alone;
    int first_error = 0;
    for (int r = 0; r < size(); ++r) {
      const std::vector<int>& neighbours = hosts_.ranks_of(hosts_.host_of(r));
      int error = 0;
      for (int rank : neighbours) error = std::max(error, made.errors[rank]);
      if (error != 0 && neighbours.size() == 1) {
        return absl::ResourceExhaustedError(absl::StrCat(
            "mpi: rank ", r, " has no room for ", bytes, " bytes"));
      }
      if (error != 0) alone.push_back(r);
      if (error != 0 && first_error == 0) first_error = error;
      colors.push_back(error == 0 ? hosts_.host_of(r) : size() + r);
    }
    if (rank_ == 0) WarnOfNoWindow(log_, alone, bytes, first_error);
    hosts_ = HostMap::FromColors(colors);
  }
}

MpiLink::~MpiLink() {
  if (comm_ != MPI_COMM_NULL) watch_->Leave();
  // The last call that may tell others.
  if (watch_->error().ok()) return;
  // Leaked, and only after a break: a late message may still land here.
  scratch_.release();
  new std::vector<std::vector<Signature>>(std::move(greetings_of_));
}

char* MpiLink::Scratch(int64_t chunks) {
  const int64_t bytes = chunks * chunk_bytes_;
  if (bytes > scratch_bytes_) {
    scratch_.reset(new char[bytes]);
    scratch_bytes_ = bytes;
  }
  return scratch_.get();
}

absl::Status MpiLink::AwaitHost(std::atomic<int64_t> HostSlot::*counter,
                                int64_t least, const Signature& what) {
  const std::vector<int>& ranks = hosts_.ranks_of(host());
  const auto behind = [&] {
    std::vector<int> result;
    for (int i = 0; i < window_->size(); ++i) {
      const std::atomic<int64_t>& value = window_->slot(i).*counter;
      if (value.load(std::memory_order_acquire) < least) {
        result.push_back(ranks[i]);
      }
    }
    return result;
  };
  int first = 0;  // All before it have been seen.
  const auto look = [&]() -> absl::StatusOr<MpiWatch::Progress> {
    while (first < window_->size() &&
           (window_->slot(first).*counter).load(std::memory_order_acquire) >=
               least) {
      ++first;
    }
    return MpiWatch::Progress{0, first == window_->size()};
  };
  return watch_->Until({[&] { return Describe(what); }, members_, behind},
                       look);
}

absl::Status MpiLink::Await(MpiRequests& requests, const Signature& what) {
  return watch_->Until({[&] { return Describe(what); }, members_,
                        [&] { return requests.pending_peers(); }},
                       [&] { return requests.Look(); });
}

absl::Status MpiLink::Greet(const Signature& signature) {
  ZEROMINI_RETURN_IF_ERROR(watch_->Look());
  // The tag tells exchanges apart, so that what a broken one left behind is
  // never taken for part of another. MPI promises tags up to 32767.
  constexpr int kTags = 32766;
  tag_ = (tag_ + 2) % kTags;
  const int64_t number = ++greetings_;
  HostSlot& own = window_->own();
  own.greeting[number % 2] = signature;
  own.greeted.store(number, std::memory_order_release);
  if (window_->index() == 0) {
    ZEROMINI_RETURN_IF_ERROR(GreetAsLeader(signature, number));
  }
  const HostSlot& leader = window_->slot(0);
  const auto judged = [&]() -> absl::StatusOr<MpiWatch::Progress> {
    return MpiWatch::Progress{
        0, leader.judged.load(std::memory_order_acquire) >= number};
  };
  const auto blame = [&] {
    return std::vector<int>{hosts_.ranks_of(host())[0]};
  };
  ZEROMINI_RETURN_IF_ERROR(watch_->Until(
      {[&] { return Describe(signature); }, members_, blame}, judged));
  const HostSlot::Verdict& verdict = leader.verdict[number % 2];
  const auto code = static_cast<absl::StatusCode>(verdict.code);
  if (code == absl::StatusCode::kOk) return absl::OkStatus();
  return absl::Status(code, verdict.text);
}

absl::Status MpiLink::GreetAsLeader(const Signature& signature,
                                    int64_t number) {
  ZEROMINI_RETURN_IF_ERROR(AwaitHost(&HostSlot::greeted, number, signature));
  std::vector<Signature> by_rank;
  ZEROMINI_RETURN_IF_ERROR(ExchangeGreetings(signature, &by_rank));
  const absl::Status agreement = CheckAgreement(by_rank);
  HostSlot::Verdict& verdict = window_->own().verdict[number % 2];
  verdict.code = static_cast<int32_t>(agreement.code());
  std::strncpy(verdict.text, std::string(agreement.message()).c_str(),
               HostSlot::Verdict::kLongest - 1);
  window_->own().judged.store(number, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status MpiLink::ExchangeGreetings(const Signature& signature,
                                        std::vector<Signature>* by_rank) {
  std::vector<Signature>& mine = greetings_of_[host()];
  for (int i = 0; i < window_->size(); ++i) {
    mine[i] = window_->slot(i).greeting[greetings_ % 2];
  }
  const auto bytes = [](const std::vector<Signature>& signatures) {
    return static_cast<int64_t>(signatures.size() * sizeof(Signature));
  };
  MpiRequests requests(comm_);
  for (int i = 1; i < hosts_.hosts(); ++i) {
    const int other = (host() + i) % hosts_.hosts();
    const int leader = hosts_.ranks_of(other)[0];
    std::vector<Signature>& theirs = greetings_of_[other];
    ZEROMINI_RETURN_IF_ERROR(
        requests.Receive(theirs.data(), bytes(theirs), leader, tag_));
    ZEROMINI_RETURN_IF_ERROR(
        requests.Send(mine.data(), bytes(mine), leader, tag_));
    counter_.Add(signature.purpose, {0, bytes(mine)});
  }
  ZEROMINI_RETURN_IF_ERROR(Await(requests, signature));
  by_rank->resize(size());
  for (int rank = 0; rank < size(); ++rank) {
    (*by_rank)[rank] =
        greetings_of_[hosts_.host_of(rank)][hosts_.index_of(rank)];
  }
  return absl::OkStatus();
}

absl::Status MpiLink::Free() {
  window_->Free();
  ZEROMINI_RETURN_IF_ERROR(FromMpi(MPI_Comm_free(&comm_), "MPI_Comm_free"));
  return watch_->Leave() ? watch_->Free() : absl::OkStatus();
}

}  // namespace zeromini
