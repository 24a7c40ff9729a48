// test_device.h's optimizers, for tests that replace a part of them.

#ifndef ZEROMINI_TESTS_SUPPORT_DEVICE_PARTS_H_
#define ZEROMINI_TESTS_SUPPORT_DEVICE_PARTS_H_

#include <memory>

#include "runtime/optimizer_parts.h"

namespace zeromini {

// The host or the fake device, with the kernels that an optimizer takes itself.
std::unique_ptr<Device> MakeTestDevice(absl::Duration timeout);

// As MakeOptimizer(). `parts.device` must be one of MakeTestDevice(), wrapped
// or not, or null.
absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizerOf(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group, OptimizerParts parts);

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_DEVICE_PARTS_H_
