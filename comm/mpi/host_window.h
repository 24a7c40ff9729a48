// HostWindow: memory that the ranks of one host share, and the counters by
// which they take turns in it.

#ifndef ZEROMINI_COMM_MPI_HOST_WINDOW_H_
#define ZEROMINI_COMM_MPI_HOST_WINDOW_H_

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "comm/call.h"
#include "comm/host_map.h"
#include "comm/mpi/mpi_setup.h"

namespace zeromini {

// One rank's counters, each written by its owner only and never decreasing. A
// cache line each, since all ranks of the host watch them.
struct HostSlot {
  // What the leader of a host found of an exchange's greetings.
  struct Verdict {
    static constexpr int kLongest = 1000;
    int32_t code = 0;  // An absl::StatusCode.
    char text[kLongest] = "";
  };

  alignas(64) std::atomic<int64_t> greeted;    // Exchanges.
  alignas(64) std::atomic<int64_t> judged;     // Exchanges; leader only.
  alignas(64) std::atomic<int64_t> staged;     // Steps: own data is there.
  alignas(64) std::atomic<int64_t> delivered;  // Steps: other hosts' data is.
  alignas(64) std::atomic<int64_t> consumed;   // Steps: done reading peers.

  // By parity of the exchange: nobody can be two ahead of a rank that reads.
  alignas(64) Signature greeting[2];
  Verdict verdict[2];
};
static_assert(std::atomic<int64_t>::is_always_lock_free);

// POSIX shared memory. MPI_Win_allocate_shared would do, but where /dev/shm is
// too small Open MPI fails on one rank and leaves the others waiting.
//
// Waiting for the counters is the caller's. Neither dies with a peer: what a
// killed or stopped rank has written stays readable.
class HostWindow {
 public:
  // The window, or why there is none: by rank, an errno, 0 where nothing
  // failed. All ranks get the same errors.
  struct Made {
    std::unique_ptr<HostWindow> window;
    std::vector<int> errors;
  };

  // Collective over `comm`, whose ranks `hosts` maps. Each rank contributes its
  // slot and `bytes` of payload, at an address aligned to 64; the memory is
  // there, not only promised.
  static absl::StatusOr<Made> Create(MpiSetup& setup, MPI_Comm comm,
                                     const HostMap& hosts, int64_t bytes);

  // Leaks a window that was not freed: a late message may still land in it.
  ~HostWindow() = default;

  int size() const { return static_cast<int>(slots_.size()); }
  int index() const { return index_; }
  HostSlot& slot(int index) { return *slots_[index]; }
  HostSlot& own() { return *slots_[index_]; }
  char* payload(int index) { return payloads_[index]; }

  void Free();

 private:
  HostWindow(int index, int size, int64_t bytes);

  // The three return an errno.
  int Offer(std::string* name);
  int Take(const std::string& name);
  int TakeAlone();
  void PlaceSlots();

  const int index_;
  const int size_;
  const int64_t stride_;  // Bytes of one rank.
  char* memory_ = nullptr;
  std::vector<HostSlot*> slots_;
  std::vector<char*> payloads_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_HOST_WINDOW_H_
