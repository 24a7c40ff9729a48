// A local failure made everybody's.

#ifndef ZEROMINI_TOOLS_AGREE_ON_H_
#define ZEROMINI_TOOLS_AGREE_ON_H_

#include "absl/status/status.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

// Collective. OK if `mine` is OK on every rank; otherwise, on every rank, the
// error of the lowest rank that has one.
absl::Status AgreeOn(const absl::Status& mine, Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_AGREE_ON_H_
