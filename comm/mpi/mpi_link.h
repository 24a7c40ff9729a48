// MpiLink: what the exchanges of one rank of one group share: who is where, the
// memory of its host, and how to wait.

#ifndef ZEROMINI_COMM_MPI_MPI_LINK_H_
#define ZEROMINI_COMM_MPI_MPI_LINK_H_

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "comm/call.h"
#include "comm/host_map.h"
#include "comm/level_counter.h"
#include "comm/mpi/host_window.h"
#include "comm/mpi/mpi_requests.h"
#include "comm/mpi/mpi_setup.h"
#include "comm/mpi/mpi_watch.h"
#include "comm/segments.h"
#include "zeromini/log.h"

namespace zeromini {

// All that MPI reads or writes lies in the window or in scratch(), never in a
// caller's buffer: both outlive a break.
class MpiLink {
 public:
  // Collective over `comm`, which it takes over with errors returning.
  // `members[r]` is rank r's number in `watch`, `colors[r]` its host. Ranks of
  // a host that can share no memory become hosts of their own, with a warning.
  static absl::StatusOr<std::unique_ptr<MpiLink>> Create(
      MpiSetup& setup, MPI_Comm comm, std::vector<int> members,
      absl::Span<const int> colors, std::shared_ptr<MpiWatch> watch);

  ~MpiLink();

  int rank() const { return rank_; }
  int size() const { return hosts_.ranks(); }
  const HostMap& hosts() const { return hosts_; }
  int host() const { return hosts_.host_of(rank_); }
  bool one_host() const { return hosts_.hosts() == 1; }
  const std::vector<int>& members() const { return members_; }
  MPI_Comm comm() const { return comm_; }
  MpiWatch& watch() { return *watch_; }
  const std::shared_ptr<MpiWatch>& shared_watch() { return watch_; }
  const LogSink& log() const { return log_; }
  HostWindow& window() { return *window_; }
  LevelCounter& counter() { return counter_; }

  // The rank of this host that adds up its contributions to `segment`.
  int Reducer(int segment) const {
    return hosts_.host_of(segment) == host() ? segment
                                             : hosts_.Courier(host(), segment);
  }

  // Begins an exchange: every rank learns what every other is about to do
  // before any payload moves.
  absl::Status Greet(const Signature& signature);

  // Chunks of what a step can hold.
  int64_t ChunkElements(DType dtype) const {
    return chunk_bytes_ / SizeOf(dtype);
  }

  // Steps in flight. Inside a host one is filled while the other is read; a
  // network also needs some on their way.
  int depth() const { return depth_; }

  // Where the chunk of `segment` lies that rank `index` of this host stages or
  // receives in `step`.
  char* Place(int index, int segment, int64_t step) {
    return window_->payload(index) +
           (step % depth_ * size() + segment) * chunk_bytes_;
  }
  // Memory of this rank alone, `chunks` of chunk_bytes().
  char* Scratch(int64_t chunks);
  int64_t chunk_bytes() const { return chunk_bytes_; }

  // Counts the steps of all exchanges; the host's ranks go in step.
  int64_t TakeStep() { return steps_++; }
  int64_t steps() const { return steps_; }

  int PayloadTag() const { return tag_ + 1; }

  // Returns once `counter` of every rank of this host is at least `least`.
  absl::Status AwaitHost(std::atomic<int64_t> HostSlot::*counter, int64_t least,
                         const Signature& what);
  absl::Status Await(MpiRequests& requests, const Signature& what);

  absl::Status Free();  // Collective.

 private:
  MpiLink() = default;

  absl::Status ShareMemory(MpiSetup& setup);

  absl::Status GreetAsLeader(const Signature& signature, int64_t number);
  absl::Status ExchangeGreetings(const Signature& signature,
                                 std::vector<Signature>* by_rank);

  MPI_Comm comm_ = MPI_COMM_NULL;
  int rank_ = 0;
  HostMap hosts_;
  std::vector<int> members_;
  std::shared_ptr<MpiWatch> watch_;
  LogSink log_;
  std::unique_ptr<HostWindow> window_;
  LevelCounter counter_;
  int depth_ = 2;
  int64_t chunk_bytes_ = 0;

  int64_t greetings_ = 0;  // Exchanges begun.
  int64_t steps_ = 0;
  int tag_ = 0;
  // Of this host's ranks, and of each other host's, for the leader.
  std::vector<std::vector<Signature>> greetings_of_;
  std::unique_ptr<char[]> scratch_;
  int64_t scratch_bytes_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_LINK_H_
