#include "tools/rank_threads.h"

#include <system_error>
#include <thread>

#include "absl/strings/str_cat.h"

namespace zeromini::tools {

absl::Status OnRankThreads(std::vector<std::unique_ptr<Communicator>>& group,
                           const std::function<void(int rank)>& body) {
  absl::Status status;
  std::vector<std::thread> threads;
  threads.reserve(group.size());
  for (int r = 0; r < static_cast<int>(group.size()) && status.ok(); ++r) {
    try {
      threads.emplace_back([&body, r] { body(r); });
    } catch (const std::system_error& error) {
      status = absl::ResourceExhaustedError(absl::StrCat(
          "no thread can be made for rank ", r, " of ", group.size(), ": ",
          error.code().message(),
          "; run fewer ranks, or allow more threads or memory (ulimit)"));
      for (auto& rank : group) rank->Abort(status);
    }
  }
  for (std::thread& thread : threads) thread.join();
  return status;
}

}  // namespace zeromini::tools
