// What Optimizer::Create() hands the planner: checked, and with everything that
// the options and the number of ranks say.

#ifndef ZEROMINI_RUNTIME_OPTIONS_PLAN_INPUTS_H_
#define ZEROMINI_RUNTIME_OPTIONS_PLAN_INPUTS_H_

#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"
#include "zeromini/plan.h"

namespace zeromini {

// Ranks that share one copy of the state. InvalidArgument, with the numbers, if
// the options do not divide the ranks.
absl::StatusOr<int> ShardRanks(const OptimizerOptions& options, int ranks);

struct PlanInputs {
  std::vector<ParamSpec> specs;
  PlanOptions options;
};

// Every error that the options and the parameters can cause before a plan
// exists.
absl::StatusOr<PlanInputs> PlanInputsOf(absl::Span<const ParamSpec> specs,
                                        const OptimizerOptions& options,
                                        int ranks);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTIONS_PLAN_INPUTS_H_
