// Planner: from resolved parameters to a Plan. MakePlan resolves ParamSpecs
// first; a method with units of its own starts here.

#ifndef ZEROMINI_SHARD_PLANNER_H_
#define ZEROMINI_SHARD_PLANNER_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "zeromini/plan.h"

namespace zeromini {

// Parameters with rows, blocks, units, wire and state sizes, layer, tie and
// padding as PlannedParam says; `bucket` is filled in. Fails as MakePlan does,
// and for units that do not cover the rows.
absl::StatusOr<Plan> MakePlanFor(std::vector<PlannedParam> params,
                                 const PlanOptions& options);

// Names, ties, layers, rules; appends to `warnings`.
absl::StatusOr<std::vector<PlannedParam>> ResolveParams(
    absl::Span<const ParamSpec> specs, const PlanOptions& options,
    std::vector<std::string>* warnings);

// Of everything but Plan::hash itself.
uint64_t HashOf(const Plan& plan);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_PLANNER_H_
