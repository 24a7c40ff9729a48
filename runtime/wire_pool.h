// WirePool: exchange buffers that buckets use in turn.

#ifndef ZEROMINI_RUNTIME_WIRE_POOL_H_
#define ZEROMINI_RUNTIME_WIRE_POOL_H_

#include <cstdint>
#include <deque>
#include <mutex>

#include "absl/status/statusor.h"
#include "runtime/device.h"

namespace zeromini {

// Thread-safe.
class WirePool {
 public:
  // Buffers of `bytes` each. Once `target` exist, a buffer in flight is reused
  // rather than another allocated; with none in flight one more is allocated,
  // since waiting for it could be waiting for ourselves.
  WirePool(Device& device, int64_t bytes, int target)
      : device_(device), bytes_(bytes), target_(target) {}

  struct Lease {
    Buffer buffer;
    Event ready;  // The taker's stream must wait for it first.
  };
  absl::StatusOr<Lease> Take();
  void Give(Buffer buffer, Event free_after);

 private:
  Device& device_;
  const int64_t bytes_;
  const int target_;
  std::mutex mutex_;
  std::deque<Lease> free_;  // In the order they were given back.
  int allocated_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_WIRE_POOL_H_
