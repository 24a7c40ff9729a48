#include "runtime/options/plan_inputs.h"

#include "absl/strings/str_cat.h"
#include "runtime/options/hyper_groups.h"
#include "runtime/options/option_checks.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/plan_bytes.h"

namespace zeromini {

absl::StatusOr<int> ShardRanks(const OptimizerOptions& options, int ranks) {
  const int slices = options.expert_slices;
  if (slices < 1 || ranks % slices != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "expert_slices ", slices, " does not divide the ", ranks, " ranks"));
  }
  const int shards = options.shard_ranks == 0 ? ranks : options.shard_ranks;
  if (shards < 1 || ranks % shards != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "shard_ranks ", shards, " does not divide the ", ranks, " ranks"));
  }
  if (ranks / slices % shards != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "shard_ranks ", shards, " does not divide the ", ranks / slices,
        " ranks of each of the ", slices, " expert slices"));
  }
  return shards;
}

absl::StatusOr<PlanInputs> PlanInputsOf(absl::Span<const ParamSpec> specs,
                                        const OptimizerOptions& options,
                                        int ranks) {
  ZEROMINI_RETURN_IF_ERROR(CheckOptions(options));
  ZEROMINI_ASSIGN_OR_RETURN(const int shards, ShardRanks(options, ranks));
  PlanInputs inputs;
  ZEROMINI_ASSIGN_OR_RETURN(inputs.specs, JoinGroups(specs, options));
  ZEROMINI_RETURN_IF_ERROR(CheckSpecs(inputs.specs, options));
  inputs.options = PlanOptionsOf(options, shards, ranks);
  return inputs;
}

absl::StatusOr<Plan> PlanFor(absl::Span<const ParamSpec> params,
                             const OptimizerOptions& options, int ranks) {
  ZEROMINI_ASSIGN_OR_RETURN(const PlanInputs inputs,
                            PlanInputsOf(params, options, ranks));
  return MakePlan(inputs.specs, inputs.options);
}

}  // namespace zeromini
