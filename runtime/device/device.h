// Device: memory, streams and events of the place where a shard lives. The
// pipeline knows no other difference between a host and a GPU.

#ifndef ZEROMINI_RUNTIME_DEVICE_DEVICE_H_
#define ZEROMINI_RUNTIME_DEVICE_DEVICE_H_

#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/device/memory_ledger.h"
#include "zeromini/kernels.h"
#include "zeromini/stream.h"

namespace zeromini {

// A point in a stream's order; null is a point already passed.
using Event = std::shared_ptr<void>;

// Thread-safe.
class Device {
 public:
  virtual ~Device() = default;

  virtual const KernelTable& kernels() const = 0;

  // The stream of statistics and updates. One per device.
  virtual Stream compute() = 0;

  // ResourceExhausted, with the number of bytes, if there is no room.
  virtual absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) = 0;

  // Puts `task` in `stream`'s order: a host stream runs it there, the null
  // stream at once. A GPU device would call it at once with the stream that
  // its launches go to.
  virtual void Submit(Stream stream,
                      std::function<absl::Status(Stream)> task) = 0;

  // Zeroes `bytes` at `memory` in `stream`'s order.
  virtual void Zero(void* memory, int64_t bytes, Stream stream) = 0;

  virtual Event Record(Stream stream) = 0;

  // `stream` goes on once `event` has passed; it inherits its error. On the
  // null stream the caller blocks.
  virtual absl::Status WaitFor(Stream stream, const Event& event) = 0;

  // Blocks the caller; the event's first error, or DeadlineExceeded.
  virtual absl::Status Synchronize(const Event& event, absl::Time deadline) = 0;

  virtual MemoryReport Memory() const = 0;

  // Drops what is queued on compute(): the group broke, nothing will come.
  virtual void Abandon(absl::Status why) = 0;
};

// `compute` null: a worker thread of its own. `timeout` bounds WaitFor() on the
// null stream.
std::unique_ptr<Device> MakeHostDevice(const KernelTable& kernels,
                                       absl::Duration timeout,
                                       std::unique_ptr<HostStream> compute);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_DEVICE_DEVICE_H_
