// Where a test's optimizers, tensors, ranks and streams are: on the host or,
// with ZEROMINI_TEST_DEVICE=fake, on a device whose memory the host cannot
// read. A test is written once: all pointers that it sees can be read, and
// MakeOptimizer() gives the runtime those of the device.

#ifndef ZEROMINI_TESTS_SUPPORT_TEST_DEVICE_H_
#define ZEROMINI_TESTS_SUPPORT_TEST_DEVICE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "zeromini/group.h"
#include "zeromini/optimizer.h"
#include "zeromini/stream.h"

namespace zeromini {

bool OnFakeDevice();

// Says otherwise while it lives. No optimizer may outlive it.
class ScopedTestDevice {
 public:
  explicit ScopedTestDevice(bool fake);
  ~ScopedTestDevice();
  ScopedTestDevice(const ScopedTestDevice&) = delete;
  ScopedTestDevice& operator=(const ScopedTestDevice&) = delete;

 private:
  const bool before_;
};

// What the host may read at an address of the device, and back; any other
// address is what it was.
void* HostView(void* device);
void* DeviceAddress(void* seen);

// Calls that made this thread wait for a device or for other ranks.
int64_t HostWaitsSoFar();

// As Optimizer::Create(). On the fake device, ParamSpec::data and gradients of
// a stream must be a TestTensor()'s; a gradient of no stream may be anywhere,
// and is copied to memory that is gone when GradReady() returns.
absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group);

// Zeroed memory that MakeOptimizer()'s can be given.
std::shared_ptr<void> TestTensor(int64_t bytes);

// As ThreadGroup() and Self().
absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeGroup(
    int size, const GroupOptions& options);
std::unique_ptr<Communicator> MakeSelf();

// What runs on a stream that is not null, of a group or of a caller.
HostStream& QueueOf(Stream stream);

// A stream of the caller's.
class CallerStream {
 public:
  virtual ~CallerStream() = default;

  virtual Stream handle() = 0;
  virtual HostStream& queue() = 0;  // What runs on it.

  // Null: one of its own.
  static std::unique_ptr<CallerStream> Make(
      std::unique_ptr<HostStream> queue = nullptr);
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_TEST_DEVICE_H_
