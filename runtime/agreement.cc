#include "runtime/agreement.h"

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "runtime/fnv_hash.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int kMessageBytes = 1024;
constexpr Exchange kControl = {Purpose::kControl, -1, 0};

// values[r] = rank r's `mine`.
absl::Status Gather(int64_t mine, Communicator& group, Device& device,
                    std::vector<int64_t>* values) {
  values->assign(group.size(), 0);
  (*values)[group.rank()] = mine;
  ZEROMINI_RETURN_IF_ERROR(group.AllGather(values->data() + group.rank(),
                                           values->data(), 1, DType::kInt64,
                                           kControl));
  return FinishExchange(group, device);
}

// Everyone gets `root`'s text.
absl::Status Share(std::string* text, int root, Communicator& group,
                   Device& device) {
  std::vector<char> buffer(kMessageBytes, 0);
  if (group.rank() == root) {
    std::memcpy(buffer.data(), text->data(),
                std::min(text->size(), buffer.size() - 1));
  }
  ZEROMINI_RETURN_IF_ERROR(
      group.Broadcast(buffer.data(), kMessageBytes, root, kControl));
  ZEROMINI_RETURN_IF_ERROR(FinishExchange(group, device));
  *text = buffer.data();
  return absl::OkStatus();
}

std::string Describe(const PlannedParam& param) {
  return absl::StrCat("'", param.name, "' [", absl::StrJoin(param.shape, ","),
                      "] ", RoleName(param.role), ", group ", param.group,
                      param.frozen ? ", frozen" : "");
}

// The first parameter whose description differs between `rank` and rank 0.
absl::Status NameDifference(const Plan& plan, int rank, Communicator& group,
                            Device& device, std::string* difference) {
  const int64_t params = static_cast<int64_t>(plan.params.size());
  std::vector<int64_t> counts;
  ZEROMINI_RETURN_IF_ERROR(Gather(params, group, device, &counts));
  const int64_t common = *std::min_element(counts.begin(), counts.end());
  for (int64_t i = 0; i < common; ++i) {
    const std::string mine = Describe(plan.params[i]);
    std::vector<int64_t> hashes;
    ZEROMINI_RETURN_IF_ERROR(
        Gather(static_cast<int64_t>(FnvHash().Add(mine).value()), group, device,
               &hashes));
    if (hashes[rank] == hashes[0]) continue;
    std::string theirs = mine, root = mine;
    ZEROMINI_RETURN_IF_ERROR(Share(&theirs, rank, group, device));
    ZEROMINI_RETURN_IF_ERROR(Share(&root, 0, group, device));
    *difference = absl::StrCat("parameter ", i, " is ", theirs, " on rank ",
                               rank, " but ", root, " on rank 0");
    return absl::OkStatus();
  }
  *difference =
      counts[rank] != counts[0]
          ? absl::StrCat("rank ", rank, " has ", counts[rank],
                         " parameters but rank 0 has ", counts[0])
          : absl::StrCat("rank ", rank,
                         " has the same parameters as rank 0 but other "
                         "optimizer options or block rules");
  return absl::OkStatus();
}

}  // namespace

absl::Status FinishExchange(Communicator& group, Device& device) {
  return device.Synchronize(device.Record(group.stream()),
                            absl::Now() + StreamPatience(group));
}

absl::Status AgreeOnStatus(const absl::Status& mine, Communicator& group,
                           Device& device) {
  return AgreeOnCall(mine, 0, group, device);
}

absl::Status AgreeOnCall(const absl::Status& mine, int param,
                         Communicator& group, Device& device) {
  constexpr int64_t kCodes = 256;
  std::vector<int64_t> calls;
  ZEROMINI_RETURN_IF_ERROR(
      Gather(param * kCodes + static_cast<int64_t>(mine.code()), group, device,
             &calls));
  for (int rank = 0; rank < group.size(); ++rank) {
    const int64_t code = calls[rank] & (kCodes - 1);
    if (code == 0) continue;
    std::string message(mine.message());
    ZEROMINI_RETURN_IF_ERROR(Share(&message, rank, group, device));
    return absl::Status(static_cast<absl::StatusCode>(code),
                        absl::StrCat("rank ", rank, ": ", message));
  }
  for (int rank = 1; rank < group.size(); ++rank) {
    if (calls[rank] == calls[0]) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "ranks name different parameters in one call: rank 0 names parameter ",
        calls[0] / kCodes, ", rank ", rank, " parameter ",
        calls[rank] / kCodes));
  }
  return absl::OkStatus();
}

absl::Status AgreeOnPlan(const Plan& plan, uint64_t options_hash,
                         Communicator& group, Device& device) {
  std::vector<int64_t> hashes;
  const uint64_t mine = plan.hash ^ (options_hash * 0x9e3779b97f4a7c15u);
  ZEROMINI_RETURN_IF_ERROR(
      Gather(static_cast<int64_t>(mine), group, device, &hashes));
  for (int rank = 1; rank < group.size(); ++rank) {
    if (hashes[rank] == hashes[0]) continue;
    std::string difference;
    ZEROMINI_RETURN_IF_ERROR(
        NameDifference(plan, rank, group, device, &difference));
    return absl::InvalidArgumentError(
        absl::StrCat("ranks disagree on the plan: ", difference));
  }
  return absl::OkStatus();
}

absl::Status RanksWhere(bool here, Communicator& group, Device& device,
                        std::vector<int>* ranks) {
  std::vector<int64_t> flags;
  ZEROMINI_RETURN_IF_ERROR(Gather(here ? 1 : 0, group, device, &flags));
  ranks->clear();
  for (int rank = 0; rank < group.size(); ++rank) {
    if (flags[rank] != 0) ranks->push_back(rank);
  }
  return absl::OkStatus();
}

}  // namespace zeromini
