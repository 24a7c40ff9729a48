// The host's kernels as a GPU has them: a call checks its pointers, puts the
// work in a stream's order and returns.

#ifndef ZEROMINI_TESTS_SUPPORT_FAKE_KERNELS_H_
#define ZEROMINI_TESTS_SUPPORT_FAKE_KERNELS_H_

#include <memory>
#include <utility>

#include "absl/status/status.h"
#include "zeromini/kernels.h"
#include "zeromini/stream.h"

namespace zeromini {

// What the `native` of a fake's stream points to. Only the fake looks inside.
class FakeStream {
 public:
  explicit FakeStream(std::unique_ptr<HostStream> queue)
      : queue_(std::move(queue)) {}

  // Work on it is late now and then.
  static std::unique_ptr<FakeStream> Late();

  Stream handle() { return {this, DeviceKind::kCuda}; }
  HostStream& queue() { return *queue_; }

  // Null for the caller's thread, and a stream of this thread's for a null
  // native. Aborts if it is a stream of another device.
  static FakeStream* From(Stream stream);

 private:
  const std::unique_ptr<HostStream> queue_;
};

// InvalidArgument, with the kernel and the argument named, for a pointer that
// is not of FakeMemory.
const KernelTable& FakeKernels(bool reference);

// Calls that made the calling thread wait for a device or other ranks.
int64_t& HostWaits();

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_FAKE_KERNELS_H_
