#include "tools/agree_on.h"

#include <algorithm>
#include <cstdint>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

// Everyone gets `root`'s.
absl::Status Share(void* data, int64_t bytes, int root, Communicator& group) {
  Communicator& control = group.control();
  ZEROMINI_RETURN_IF_ERROR(control.Broadcast(data, bytes, root, Exchange()));
  return WaitForExchanges(control);
}

absl::Status ShareText(std::string* text, int root, Communicator& group) {
  int64_t size = static_cast<int64_t>(text->size());
  ZEROMINI_RETURN_IF_ERROR(Share(&size, sizeof(size), root, group));
  text->resize(size);
  return Share(text->data(), size, root, group);
}

std::string Lines(const Facts& facts) {
  std::string lines;
  for (const auto& [name, value] : facts) {
    absl::StrAppend(&lines, name, "=", value, "\n");
  }
  return lines;
}

absl::Status Compare(const Facts& mine, const std::string& lines_of_rank_0,
                     int rank) {
  const std::vector<std::string> theirs =
      absl::StrSplit(lines_of_rank_0, '\n', absl::SkipEmpty());
  for (size_t i = 0; i < std::min(mine.size(), theirs.size()); ++i) {
    const auto& [name, value] = mine[i];
    const std::pair<std::string, std::string> fact =
        absl::StrSplit(theirs[i], absl::MaxSplits('=', 1));
    if (fact == mine[i]) continue;
    return absl::InvalidArgumentError(
        name == fact.first
            ? absl::StrCat(name, " is ", value, " on rank ", rank, " but ",
                           fact.second, " on rank 0")
            : absl::StrCat("rank ", rank, " was told ", name,
                           " where rank 0 "
                           "was told ",
                           fact.first));
  }
  if (mine.size() == theirs.size()) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("rank ", rank, " was told ", mine.size(),
                   " things but rank 0 ", theirs.size()));
}

}  // namespace

absl::Status AgreeOn(const absl::Status& mine, Communicator& group) {
  int64_t culprit = mine.ok() ? group.size() : group.rank();
  Communicator& control = group.control();
  ZEROMINI_RETURN_IF_ERROR(control.AllReduce(&culprit, 1, DType::kInt64,
                                             ReduceOp::kMin, Exchange()));
  ZEROMINI_RETURN_IF_ERROR(WaitForExchanges(control));
  if (culprit == group.size()) return absl::OkStatus();
  const int root = static_cast<int>(culprit);
  int64_t code = static_cast<int64_t>(mine.code());
  std::string message(mine.message());
  ZEROMINI_RETURN_IF_ERROR(Share(&code, sizeof(code), root, group));
  ZEROMINI_RETURN_IF_ERROR(ShareText(&message, root, group));
  return absl::Status(static_cast<absl::StatusCode>(code), message);
}

absl::Status AgreeOnFacts(const Facts& mine, Communicator& group) {
  std::string lines = Lines(mine);
  ZEROMINI_RETURN_IF_ERROR(ShareText(&lines, 0, group));
  return AgreeOn(Compare(mine, lines, group.rank()), group);
}

}  // namespace zeromini::tools
