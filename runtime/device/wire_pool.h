// WirePool: exchange buffers that buckets use in turn.

#ifndef ZEROMINI_RUNTIME_DEVICE_WIRE_POOL_H_
#define ZEROMINI_RUNTIME_DEVICE_WIRE_POOL_H_

#include <cstdint>
#include <deque>
#include <mutex>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"

namespace zeromini {

// Thread-safe.
class WirePool {
 public:
  // Buffers of `bytes` each. Once `target` exist, a buffer in flight is reused
  // rather than another allocated; with none in flight one more is allocated,
  // since waiting for it could be waiting for ourselves. So it is while the
  // oldest one's exchange has not ended and exchanges do not overlap: it may
  // need a call of a thread that waits for the taker.
  WirePool(Device& device, int64_t bytes, int target, bool overlaps)
      : device_(device), bytes_(bytes), target_(target), overlaps_(overlaps) {}

  struct Lease {
    Buffer buffer;
    Event ready;  // The taker's stream must wait for it first.
  };
  absl::StatusOr<Lease> Take();
  // `exchanged`: the end of its exchange, which `free_after` may follow; null
  // if it has ended.
  void Give(Buffer buffer, Event free_after, Event exchanged);

 private:
  struct Free {
    Lease lease;
    Event exchanged;
  };

  bool MayWaitFor(const Free& oldest);  // Requires mutex_.

  Device& device_;
  const int64_t bytes_;
  const int target_;
  const bool overlaps_;
  std::mutex mutex_;
  std::deque<Free> free_;  // In the order they were given back.
  int allocated_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_DEVICE_WIRE_POOL_H_
