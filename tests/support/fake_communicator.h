// Ranks whose tensors are in FakeMemory: exchanges run in the order of a fake
// stream, which the caller does not wait for.

#ifndef ZEROMINI_TESTS_SUPPORT_FAKE_COMMUNICATOR_H_
#define ZEROMINI_TESTS_SUPPORT_FAKE_COMMUNICATOR_H_

#include <memory>

#include "zeromini/communicator.h"

namespace zeromini {

// Two groups of the same ranks, on the host: what `control` exchanges is in
// host memory, what `tensors` does is where FakeMemory's bytes are.
std::unique_ptr<Communicator> MakeFakeCommunicator(
    std::unique_ptr<Communicator> control,
    std::unique_ptr<Communicator> tensors);

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_FAKE_COMMUNICATOR_H_
