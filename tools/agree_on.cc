#include "tools/agree_on.h"

#include <cstdint>
#include <string>

#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {

absl::Status AgreeOn(const absl::Status& mine, Communicator& group) {
  const Exchange exchange;
  int64_t culprit = mine.ok() ? group.size() : group.rank();
  ZEROMINI_RETURN_IF_ERROR(
      group.AllReduce(&culprit, 1, DType::kInt64, ReduceOp::kMin, exchange));
  ZEROMINI_RETURN_IF_ERROR(group.Barrier());
  if (culprit == group.size()) return absl::OkStatus();
  std::string message(mine.message());
  int64_t facts[] = {static_cast<int64_t>(mine.code()),
                     static_cast<int64_t>(message.size())};
  const int root = static_cast<int>(culprit);
  ZEROMINI_RETURN_IF_ERROR(
      group.Broadcast(facts, sizeof(facts), root, exchange));
  ZEROMINI_RETURN_IF_ERROR(group.Barrier());
  message.resize(facts[1]);
  ZEROMINI_RETURN_IF_ERROR(
      group.Broadcast(message.data(), facts[1], root, exchange));
  ZEROMINI_RETURN_IF_ERROR(group.Barrier());
  return absl::Status(static_cast<absl::StatusCode>(facts[0]), message);
}

}  // namespace zeromini::tools
