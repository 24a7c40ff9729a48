// What `zeromini plan` refuses and warns of, beyond what an optimizer would.

#ifndef ZEROMINI_TOOLS_PLAN_PLAN_CHECKS_H_
#define ZEROMINI_TOOLS_PLAN_PLAN_CHECKS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "tools/plan/plan_flags.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

// InvalidArgument for a flag that was given and changes nothing beside the
// others: its numbers would be read as those of what it asks for.
absl::Status CheckHaveUse(const CLI::App& verb, const PlanFlags& flags);

// Stage 3: InvalidArgument for a budget that no pass layer by layer, with what
// belongs to no layer held throughout, keeps to. Every Gather() would fail.
absl::Status CheckGatherBudget(const Plan& plan,
                               const OptimizerOptions& options);

// The plan's own, and one if a rank's exchange buffers, `buffer_bytes`, take
// more than their budget.
std::vector<std::string> WarningsOf(const Plan& plan,
                                    const OptimizerOptions& options,
                                    int64_t buffer_bytes);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_PLAN_PLAN_CHECKS_H_
