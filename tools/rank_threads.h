// Ranks as threads of this process.

#ifndef ZEROMINI_TOOLS_RANK_THREADS_H_
#define ZEROMINI_TOOLS_RANK_THREADS_H_

#include <functional>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

// Runs body(r) for each rank of `group` on a thread of its own and returns when
// all have. If the system makes no thread for one, the group is aborted, so
// that those that run end, and the status is ResourceExhausted.
absl::Status OnRankThreads(std::vector<std::unique_ptr<Communicator>>& group,
                           const std::function<void(int rank)>& body);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_RANK_THREADS_H_
