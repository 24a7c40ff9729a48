// How RunRanks() makes its ranks.

#ifndef ZEROMINI_TESTS_SUPPORT_GROUP_MAKER_H_
#define ZEROMINI_TESTS_SUPPORT_GROUP_MAKER_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "zeromini/group.h"

namespace zeromini {

// A test that links test_device.h's library has its MakeGroup() here.
inline absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> (*make_ranks)(
    int size, const GroupOptions& options) = &ThreadGroup;

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_GROUP_MAKER_H_
