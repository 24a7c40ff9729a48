// LeasePool: exchange buffers and gathered weights, used in turn.

#ifndef ZEROMINI_RUNTIME_DEVICE_LEASE_POOL_H_
#define ZEROMINI_RUNTIME_DEVICE_LEASE_POOL_H_

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <mutex>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/device/device.h"

namespace zeromini {

// Thread-safe. Buffers of equal size are reused, the longest unused first.
class LeasePool {
 public:
  struct Limits {
    MemoryKind kind = MemoryKind::kBuckets;
    // What is taken and what is kept together never exceed it; 0: no limit.
    int64_t budget = 0;
    // Buffers of one size that are allocated before one is reused, in flight or
    // not: what memory is taken shall not depend on timing. With none given
    // back yet one more is allocated, since waiting for it could be waiting for
    // ourselves.
    int target = 0;
    // False where an exchange may need a call of the thread that waits for it:
    // then a buffer whose exchange has not ended is not reused.
    bool overlaps = true;
    // How long a stream may take to be done with a buffer.
    absl::Duration patience = absl::InfiniteDuration();
  };

  struct Lease {
    Buffer buffer;
    int64_t bytes = 0;
    // Whoever writes must wait for these first: the last write, the last read.
    std::array<Event, 2> ready;
    // The end of its exchange, which `ready` may follow; null if it has ended.
    Event exchanged;
  };

  LeasePool(Device& device, const Limits& limits)
      : device_(device), limits_(limits) {}

  // ResourceExhausted, with the numbers, if `bytes` more do not fit the budget.
  absl::Status CheckRoom(int64_t bytes) const;
  absl::StatusOr<Lease> Take(int64_t bytes);  // Requires room.
  void Give(Lease lease);
  // `stream` may write to the buffer from here on.
  absl::Status WaitFor(Stream stream, const Lease& lease) const;

 private:
  using Free = std::list<Lease>;

  // All require mutex_.
  Free::iterator Reusable(int64_t bytes);
  absl::Status MakeRoom(int64_t bytes);
  absl::Status DropOldest();

  Device& device_;
  const Limits limits_;
  mutable std::mutex mutex_;
  int64_t taken_ = 0;
  int64_t kept_ = 0;
  std::map<int64_t, int> allocated_;  // Buffers of each size.
  Free free_;                         // The longest unused first.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_DEVICE_LEASE_POOL_H_
