// HostWindow: memory that the ranks of one host share, and the counters by
// which they take turns in it.

#ifndef ZEROMINI_COMM_MPI_HOST_WINDOW_H_
#define ZEROMINI_COMM_MPI_HOST_WINDOW_H_

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "comm/call.h"

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

// Waiting for the counters is the caller's. Neither dies with a peer: what a
// killed or stopped rank has written stays readable.
class HostWindow {
 public:
  // Collective over `host`, the ranks of one machine. Each rank contributes its
  // slot and `bytes` of payload, at an address aligned to 64.
  static absl::StatusOr<std::unique_ptr<HostWindow>> Create(MPI_Comm host,
                                                            int64_t bytes);

  // Leaks a window that was not freed: peers may be reading it, and to free it
  // is collective.
  ~HostWindow() = default;

  int size() const { return static_cast<int>(slots_.size()); }
  int index() const { return index_; }
  HostSlot& slot(int index) { return *slots_[index]; }
  HostSlot& own() { return *slots_[index_]; }
  char* payload(int index) { return payloads_[index]; }

  absl::Status Free();  // Collective.

 private:
  HostWindow() = default;

  int index_ = 0;
  MPI_Win window_ = MPI_WIN_NULL;  // Null for a host of one rank, whose
  void* alone_ = nullptr;          // memory is this.
  std::vector<HostSlot*> slots_;
  std::vector<char*> payloads_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_HOST_WINDOW_H_
