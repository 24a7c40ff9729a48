// Device: memory, streams, events and kernels of the place where a shard lives.
// The pipeline knows no other difference between a host and a GPU, so it never
// reads device memory by a pointer and never waits where it need not.

#ifndef ZEROMINI_RUNTIME_DEVICE_DEVICE_H_
#define ZEROMINI_RUNTIME_DEVICE_DEVICE_H_

#include <cstdint>
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

  // The stream of statistics, decisions and updates. One per device.
  virtual Stream compute() = 0;

  // Zeroed. ResourceExhausted, with the number of bytes, if there is no room.
  // Dropping the last reference frees at once: what queued work still touches
  // must go to Keep() first.
  virtual absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) = 0;

  // Zeroed host memory that Copy() reads and writes in a stream's order (pinned
  // on a GPU).
  virtual absl::StatusOr<Buffer> AllocateHost(int64_t bytes) = 0;

  // Holds `buffer` until `stream` has passed all that it has been given.
  virtual void Keep(Buffer buffer, Stream stream) = 0;

  // Puts `task` in `stream`'s order. It calls kernels with the stream that it
  // is given, and nothing else: a host stream runs it later, a GPU's calls it
  // at once, so neither may it read memory of the device, nor what it refers to
  // go before the stream has passed. On the null stream of the caller's thread
  // what it launches is done on return. The first error of a task that has been
  // called.
  virtual absl::Status Launch(Stream stream,
                              std::function<absl::Status(Stream)> task) = 0;

  // In `stream`'s order, as Launch(). Copy() takes pointers to memory of the
  // device or, from AllocateHost() or on the null stream, of the host.
  virtual absl::Status Zero(void* memory, int64_t bytes, Stream stream) = 0;
  virtual absl::Status Copy(const void* from, void* to, int64_t bytes,
                            Stream stream) = 0;

  // True if kernels can read what `memory` points to.
  virtual bool Reads(const void* memory) const = 0;

  // Calls `at`, on any thread, with the host's clock in nanoseconds when
  // `stream` gets here.
  virtual void Stamp(Stream stream, std::function<void(int64_t)> at) = 0;

  virtual Event Record(Stream stream) = 0;

  // `stream` goes on once `event` has passed; it inherits its error. On the
  // null stream the caller blocks.
  virtual absl::Status WaitFor(Stream stream, const Event& event) = 0;

  // Blocks the caller; the event's first error, or DeadlineExceeded.
  virtual absl::Status Synchronize(const Event& event, absl::Time deadline) = 0;

  // True if Synchronize() would not block. Its error is not looked at.
  virtual bool Passed(const Event& event) const = 0;

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
