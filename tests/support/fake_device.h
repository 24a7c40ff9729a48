// FakeDevice: a GPU without a GPU. Its memory is FakeMemory, which the host
// cannot read; its kernels, copies and events are late, and its streams are no
// host streams. What the runtime does wrong with a GPU faults here, fails with
// a name, or changes bits.

#ifndef ZEROMINI_TESTS_SUPPORT_FAKE_DEVICE_H_
#define ZEROMINI_TESTS_SUPPORT_FAKE_DEVICE_H_

#include <memory>

#include "runtime/device/device.h"

namespace zeromini {

// `timeout` bounds WaitFor() on the null stream.
std::unique_ptr<Device> MakeFakeDevice(bool reference_kernels,
                                       absl::Duration timeout);

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_FAKE_DEVICE_H_
