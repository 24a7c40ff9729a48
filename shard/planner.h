// Planner: from resolved parameters to a Plan. MakePlan resolves ParamSpecs
// first; a method with units of its own starts here.

#ifndef ZEROMINI_SHARD_PLANNER_H_
#define ZEROMINI_SHARD_PLANNER_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "zeromini/plan.h"

namespace zeromini {

// A method's own units of a parameter that has state, as PlannedParam::units
// says; empty: as its blocks, rows or elements make them. A matrix projected to
// [rank, columns] is one unit of all its rows, rank * columns elements on the
// wire and in the state; a stack of matrices is as many.
using UnitRule = std::function<std::vector<UnitSegment>(const PlannedParam&)>;

// As MakePlan, with the units of a method.
absl::StatusOr<Plan> MakePlanWithUnits(absl::Span<const ParamSpec> specs,
                                       const PlanOptions& options,
                                       const UnitRule& rule);

// Parameters with rows, blocks, units, layer, tie and padding as PlannedParam
// says; what follows from them and `bucket` are filled in. Fails as MakePlan
// does, and for units that do not cover the rows or count nothing.
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
