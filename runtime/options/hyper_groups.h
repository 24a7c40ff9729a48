// Which group of hyper-parameters a parameter joins, and what follows for the
// plan.

#ifndef ZEROMINI_RUNTIME_OPTIONS_HYPER_GROUPS_H_
#define ZEROMINI_RUNTIME_OPTIONS_HYPER_GROUPS_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"
#include "zeromini/plan.h"

namespace zeromini {

// `specs` with a group each. Those that name one keep it; a tied parameter has
// its own, which nothing reads.
//
// InvalidArgument, naming group and pattern, if a pattern matches no parameter
// that may join by it (of group -1 and not tied), a predicate holds for none,
// or earlier groups take all that a group matches.
absl::StatusOr<std::vector<ParamSpec>> JoinGroups(
    absl::Span<const ParamSpec> specs, const OptimizerOptions& options);

// InvalidArgument if `hyper` may not take the place of group `index` once state
// exists: its numbers, or another algorithm or other patterns.
absl::Status CheckReplacement(const HyperGroup& hyper, int index,
                              const OptimizerOptions& options);

// What the planner is told: of `ranks` ranks each `shards` share a copy of the
// state.
PlanOptions PlanOptionsOf(const OptimizerOptions& options, int shards,
                          int ranks);

// Warns `log` if no rate will move the parameters that `group`, which is number
// `index`, has in the plan.
void WarnIfStill(const HyperGroup& group, int index, const Plan& plan,
                 const LogSink& log);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTIONS_HYPER_GROUPS_H_
