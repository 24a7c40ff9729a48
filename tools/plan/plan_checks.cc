#include "tools/plan/plan_checks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/optimizer_choice.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

absl::Status CheckFormatsHaveUse(const CLI::App& verb, const PlanFlags& flags) {
  if (flags.dtype == "fp32") {
    if (verb.count("--master") == 0 || flags.master == "none") {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("--master ", flags.master,
                     " is of 16-bit weights: give --dtype bf16 or fp16, or "
                     "leave it out"));
  }
  if (verb.count("--weight-wire") == 0 || flags.weight_wire == flags.dtype) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--weight-wire ", flags.weight_wire, " is of fp32 weights: ", flags.dtype,
      " ones travel as they are; leave it out"));
}

}  // namespace

absl::Status CheckHaveUse(const CLI::App& verb, const PlanFlags& flags) {
  ZEROMINI_RETURN_IF_ERROR(CheckFormatsHaveUse(verb, flags));
  if (flags.options.stage == 3) return absl::OkStatus();
  for (const char* flag : {"--gather-budget", "--prefetch"}) {
    if (verb.count(flag) == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(flag, " is of stage 3 alone, but --stage is ",
                     flags.options.stage, "; leave it out"));
  }
  return absl::OkStatus();
}

absl::Status CheckGatherBudget(const Plan& plan,
                               const OptimizerOptions& options) {
  if (options.stage < 3 || options.gather_budget_bytes == 0) {
    return absl::OkStatus();
  }
  const int64_t held = GatherBytes(plan, kNoLayerSet);
  int64_t largest = 0;
  for (const PlannedParam& param : plan.params) {
    if (param.layer_set == kNoLayerSet) continue;
    largest = std::max(largest, GatherBytes(plan, param.layer_set));
  }
  if (held + largest <= options.gather_budget_bytes) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--gather-budget ", options.gather_budget_bytes,
                   " bytes has no room for ", "the largest layer set, ",
                   largest, " bytes, beside what belongs to no ", "layer, ",
                   held, "; give at least ", held + largest));
}

std::vector<std::string> WarningsOf(const Plan& plan,
                                    const OptimizerOptions& options,
                                    int64_t buffer_bytes) {
  std::vector<std::string> warnings = plan.warnings;
  const int64_t budget = options.buffer_budget_bytes == 0
                             ? kDefaultBufferBudget
                             : options.buffer_budget_bytes;
  if (buffer_bytes > budget) {
    warnings.push_back(absl::StrFormat(
        "%s on %d ranks: exchange buffers take %d bytes, more than "
        "--buffer-budget %d: the layout needs that much at a time",
        OptimizerChoice{options.algorithm, options.second_moment}.name(),
        plan.options.ranks * plan.options.replicas, buffer_bytes, budget));
  }
  return warnings;
}

}  // namespace zeromini::tools
