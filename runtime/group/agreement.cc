#include "runtime/group/agreement.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "runtime/options/fnv_hash.h"
#include "runtime/options/option_fields.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int kMessageBytes = 1024;
constexpr Exchange kControl = {Purpose::kControl, -1, 0};

// Waits for an exchange that uses `memory`. A wait that ends first leaves it to
// the exchange for good: a stream that goes on after all would write there.
absl::Status FinishWith(std::shared_ptr<void> memory, Communicator& group) {
  static std::mutex mutex;
  static auto* const left = new std::vector<std::shared_ptr<void>>();
  const absl::Status status = FinishExchange(group);
  if (absl::IsDeadlineExceeded(status)) {
    std::lock_guard<std::mutex> lock(mutex);
    left->push_back(std::move(memory));
  }
  return status;
}

// values[r] = rank r's `mine`.
absl::Status Gather(int64_t mine, Communicator& group,
                    std::vector<int64_t>* values) {
  auto all = std::make_shared<std::vector<int64_t>>(group.size(), 0);
  int64_t* const own = all->data() + group.rank();
  *own = mine;
  ZEROMINI_RETURN_IF_ERROR(
      group.AllGather(own, all->data(), 1, DType::kInt64, kControl));
  ZEROMINI_RETURN_IF_ERROR(FinishWith(all, group));
  *values = *all;
  return absl::OkStatus();
}

// Everyone gets `root`'s text.
absl::Status Share(std::string* text, int root, Communicator& group) {
  auto buffer = std::make_shared<std::vector<char>>(kMessageBytes, 0);
  if (group.rank() == root) {
    std::memcpy(buffer->data(), text->data(),
                std::min(text->size(), buffer->size() - 1));
  }
  ZEROMINI_RETURN_IF_ERROR(
      group.Broadcast(buffer->data(), kMessageBytes, root, kControl));
  ZEROMINI_RETURN_IF_ERROR(FinishWith(buffer, group));
  *text = buffer->data();
  return absl::OkStatus();
}

// As the caller gave it.
std::string DescribeGiven(const PlannedParam& param) {
  return absl::StrCat(
      "'", param.name, "' [", absl::StrJoin(param.shape, ","), "] ",
      DTypeName(param.dtype), param.frozen ? ", frozen" : "",
      param.expert ? ", an expert's" : "",
      param.tied_to >= 0 ? absl::StrCat(", tied to ", param.tied_to) : "");
}

// Which rows share a scalar, and in what form.
std::string DescribeBlocks(const PlannedParam& param) {
  const auto describe = [](std::string* text, const BlockSegment& segment) {
    const char* const kind =
        segment.kind.has_value() ? BlockKindName(*segment.kind) : "row";
    absl::StrAppend(text, segment.rows, " rows by ", segment.rows_per_block,
                    ", ", kind, ", ", MomentFormName(segment.form));
  };
  return absl::StrCat(param.blocks_total, " blocks (",
                      absl::StrJoin(param.blocks, "; ", describe), ")");
}

// And what came of it.
std::string DescribePlanned(const PlannedParam& param) {
  return absl::StrCat(DescribeGiven(param), ", ", RoleName(param.role),
                      ", group ", param.hyper_group, ", layer ", param.layer,
                      ", layer set ", param.layer_set, ", ",
                      DescribeBlocks(param));
}

// Whose `field` is the same as whose.
absl::Status GatherHashes(const OptionField& field, Communicator& group,
                          std::vector<int64_t>* hashes) {
  const uint64_t mine = FnvHash().Add(field.name).Add(field.value).value();
  return Gather(static_cast<int64_t>(mine), group, hashes);
}

// What `ranks`, which have one value of a field, have otherwise than rank 0.
absl::Status DescribeDifference(const OptionField& mine,
                                const std::vector<int>& ranks,
                                Communicator& group, std::string* difference) {
  std::string theirs = mine.value, root = mine.value;
  ZEROMINI_RETURN_IF_ERROR(Share(&theirs, ranks.front(), group));
  ZEROMINI_RETURN_IF_ERROR(Share(&root, 0, group));
  *difference = absl::StrCat(
      mine.name, " is ", theirs, ranks.size() == 1 ? " on rank " : " on ranks ",
      absl::StrJoin(ranks, ", "), " but ", root, " on rank 0");
  return absl::OkStatus();
}

// The first value that `rank` has otherwise than rank 0; empty if there is
// none among the first `common`.
absl::Status FirstDifference(const std::vector<OptionField>& mine,
                             int64_t common, int rank, Communicator& group,
                             std::string* difference) {
  for (int64_t i = 0; i < common; ++i) {
    std::vector<int64_t> hashes;
    ZEROMINI_RETURN_IF_ERROR(GatherHashes(mine[i], group, &hashes));
    if (hashes[rank] == hashes[0]) continue;
    return DescribeDifference(mine[i], {rank}, group, difference);
  }
  return absl::OkStatus();
}

// As FirstDifference() of all; ranks may have different numbers of them.
absl::Status FirstOf(const std::vector<OptionField>& mine, int rank,
                     Communicator& group, std::string* difference) {
  std::vector<int64_t> counts;
  ZEROMINI_RETURN_IF_ERROR(
      Gather(static_cast<int64_t>(mine.size()), group, &counts));
  return FirstDifference(mine, *std::min_element(counts.begin(), counts.end()),
                         rank, group, difference);
}

std::vector<OptionField> ComparedParams(
    const Plan& plan, std::string (*describe)(const PlannedParam&)) {
  std::vector<OptionField> params;
  for (const PlannedParam& param : plan.params) {
    params.push_back(
        {absl::StrCat("parameter ", params.size()), describe(param)});
  }
  return params;
}

absl::Status NameParam(const Plan& plan, int rank, Communicator& group,
                       std::string* difference) {
  ZEROMINI_RETURN_IF_ERROR(
      FirstOf(ComparedParams(plan, DescribeGiven), rank, group, difference));
  if (!difference->empty()) return absl::OkStatus();
  std::vector<int64_t> counts;
  ZEROMINI_RETURN_IF_ERROR(
      Gather(static_cast<int64_t>(plan.params.size()), group, &counts));
  if (counts[rank] == counts[0]) return absl::OkStatus();
  *difference = absl::StrCat("rank ", rank, " has ", counts[rank],
                             " parameters but rank 0 has ", counts[0]);
  return absl::OkStatus();
}

// What the caller gave, parameters and options, comes before what the planner
// made of it, which another option may have changed.
absl::Status NameDifference(const Plan& plan, const OptimizerOptions& options,
                            int rank, Communicator& group,
                            std::string* difference) {
  ZEROMINI_RETURN_IF_ERROR(NameParam(plan, rank, group, difference));
  if (!difference->empty()) return absl::OkStatus();
  std::string option;
  ZEROMINI_RETURN_IF_ERROR(
      FirstOf(OptionFields(options), rank, group, &option));
  if (!option.empty()) {
    *difference =
        absl::StrCat("rank ", rank, " has the same parameters as rank 0 but ",
                     "other optimizer options: ", option);
    return absl::OkStatus();
  }
  ZEROMINI_RETURN_IF_ERROR(
      FirstOf(ComparedParams(plan, DescribePlanned), rank, group, difference));
  if (difference->empty()) {
    *difference = absl::StrCat("rank ", rank, " has other block rules");
  }
  return absl::OkStatus();
}

uint64_t HashOf(const Plan& plan, const OptimizerOptions& options) {
  FnvHash hash;
  for (const OptionField& field : OptionFields(options)) {
    hash.Add(field.name).Add("=").Add(field.value).Add("\n");
  }
  return plan.hash ^ (hash.value() * 0x9e3779b97f4a7c15u);
}

}  // namespace

absl::Status FinishExchange(Communicator& group) {
  return group.Finish(absl::Now() + StreamPatience(group));
}

absl::Status AgreeOnStatus(const absl::Status& mine, Communicator& group) {
  return AgreeOnCall(mine, 0, group);
}

absl::Status AgreeOnCall(const absl::Status& mine, int param,
                         Communicator& group) {
  constexpr int64_t kCodes = 256;
  std::vector<int64_t> calls;
  ZEROMINI_RETURN_IF_ERROR(Gather(
      param * kCodes + static_cast<int64_t>(mine.code()), group, &calls));
  for (int rank = 0; rank < group.size(); ++rank) {
    const int64_t code = calls[rank] & (kCodes - 1);
    if (code == 0) continue;
    std::string message(mine.message());
    ZEROMINI_RETURN_IF_ERROR(Share(&message, rank, group));
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

absl::Status AgreeOnPlan(const Plan& plan, const OptimizerOptions& options,
                         Communicator& group) {
  std::vector<int64_t> hashes;
  ZEROMINI_RETURN_IF_ERROR(
      Gather(static_cast<int64_t>(HashOf(plan, options)), group, &hashes));
  for (int rank = 1; rank < group.size(); ++rank) {
    if (hashes[rank] == hashes[0]) continue;
    std::string difference;
    ZEROMINI_RETURN_IF_ERROR(
        NameDifference(plan, options, rank, group, &difference));
    return absl::InvalidArgumentError(
        absl::StrCat("ranks disagree on the plan: ", difference));
  }
  return absl::OkStatus();
}

absl::Status NameOddField(const std::vector<OptionField>& mine,
                          Communicator& group, std::string* difference) {
  for (const OptionField& field : mine) {
    std::vector<int64_t> hashes;
    ZEROMINI_RETURN_IF_ERROR(GatherHashes(field, group, &hashes));
    int odd = 0;
    while (odd < group.size() && hashes[odd] == hashes[0]) ++odd;
    if (odd == group.size()) continue;
    std::vector<int> ranks;
    for (int rank = odd; rank < group.size(); ++rank) {
      if (hashes[rank] == hashes[odd]) ranks.push_back(rank);
    }
    return DescribeDifference(field, ranks, group, difference);
  }
  return absl::OkStatus();
}

absl::Status RanksWhere(bool here, Communicator& group,
                        std::vector<int>* ranks) {
  std::vector<int64_t> flags;
  ZEROMINI_RETURN_IF_ERROR(Gather(here ? 1 : 0, group, &flags));
  ranks->clear();
  for (int rank = 0; rank < group.size(); ++rank) {
    if (flags[rank] != 0) ranks->push_back(rank);
  }
  return absl::OkStatus();
}

}  // namespace zeromini
