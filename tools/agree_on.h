// Agreements between the ranks of a program, on failures and on what they were
// told.

#ifndef ZEROMINI_TOOLS_AGREE_ON_H_
#define ZEROMINI_TOOLS_AGREE_ON_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "zeromini/communicator.h"
#include "zeromini/internal/exchange_wait.h"

namespace zeromini::tools {

// Collective. OK if `mine` is OK on every rank; otherwise, on every rank, the
// error of the lowest rank that has one.
absl::Status AgreeOn(const absl::Status& mine, Communicator& group);

// What was said to a rank: names and values, without line ends.
using Facts = std::vector<std::pair<std::string, std::string>>;

// Collective. OK if all ranks have the same; otherwise InvalidArgument, on
// every rank, with the lowest rank that differs from rank 0, the first fact
// that does, and both values.
absl::Status AgreeOnFacts(const Facts& mine, Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_AGREE_ON_H_
