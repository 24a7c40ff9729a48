#include "runtime/options/hyper_groups.h"

#include <fnmatch.h>

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "runtime/options/option_checks.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/log.h"

namespace zeromini {
namespace {

bool Matches(const std::string& pattern, const ParamSpec& spec) {
  return fnmatch(pattern.c_str(), spec.name.c_str(), 0) == 0;
}

bool Matches(const HyperGroup& group, const ParamSpec& spec) {
  if (group.matches && group.matches(spec)) return true;
  return std::any_of(
      group.patterns.begin(), group.patterns.end(),
      [&](const std::string& pattern) { return Matches(pattern, spec); });
}

int GroupOf(const ParamSpec& spec, const OptimizerOptions& options) {
  const auto found = std::find_if(
      options.hyper_groups.begin(), options.hyper_groups.end(),
      [&](const HyperGroup& group) { return Matches(group, spec); });
  return found == options.hyper_groups.end()
             ? 0
             : static_cast<int>(found - options.hyper_groups.begin());
}

absl::Status Refuse(const HyperGroup& group, const std::string& why) {
  return absl::InvalidArgumentError(
      absl::StrCat("group '", group.name, "': ", why));
}

// `open`: the specs that may join by a match.
absl::Status CheckMatches(const HyperGroup& group,
                          absl::Span<const ParamSpec> open) {
  const char* const who =
      " parameter (of those that are not tied and name no group themselves)";
  for (const std::string& pattern : group.patterns) {
    if (std::none_of(open.begin(), open.end(), [&](const ParamSpec& spec) {
          return Matches(pattern, spec);
        })) {
      return Refuse(group,
                    absl::StrCat("pattern '", pattern, "' matches no", who));
    }
  }
  if (group.matches && std::none_of(open.begin(), open.end(), group.matches)) {
    return Refuse(group, absl::StrCat("its predicate holds for no", who));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<ParamSpec>> JoinGroups(
    absl::Span<const ParamSpec> specs, const OptimizerOptions& options) {
  std::vector<ParamSpec> joined(specs.begin(), specs.end());
  std::vector<ParamSpec> open;
  std::vector<bool> taken(options.hyper_groups.size(), false);
  for (ParamSpec& spec : joined) {
    if (spec.hyper_group >= 0) continue;
    if (spec.tied_to.empty()) open.push_back(spec);
    spec.hyper_group = GroupOf(spec, options);
    if (spec.tied_to.empty()) taken[spec.hyper_group] = true;
  }
  for (size_t g = 0; g < options.hyper_groups.size(); ++g) {
    const HyperGroup& group = options.hyper_groups[g];
    ZEROMINI_RETURN_IF_ERROR(CheckMatches(group, open));
    if (!taken[g] && (group.matches || !group.patterns.empty())) {
      return Refuse(group,
                    "all that it matches joins an earlier group; the first "
                    "that matches counts");
    }
  }
  return joined;
}

void WarnIfStill(const HyperGroup& group, int index, const Plan& plan,
                 const LogSink& log) {
  const bool still =
      group.learning_rate_scale == 0 &&
      std::any_of(plan.params.begin(), plan.params.end(),
                  [index](const PlannedParam& param) {
                    return param.has_state() && param.hyper_group == index;
                  });
  if (!still) return;
  Log(log, LogLevel::kWarning,
      absl::StrCat("group '", group.name,
                   "': learning_rate_scale is 0: its parameters keep their "
                   "weights"));
}

absl::Status CheckReplacement(const HyperGroup& hyper, int index,
                              const OptimizerOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(CheckGroup(hyper));
  const HyperGroup& old = options.hyper_groups[index];
  const Algorithm fixed = old.algorithm.value_or(options.algorithm);
  if (hyper.algorithm.value_or(fixed) != fixed) {
    return absl::InvalidArgumentError(
        absl::StrCat("group '", hyper.name,
                     "': the algorithm cannot change once state exists"));
  }
  if (!hyper.patterns.empty() && hyper.patterns != old.patterns) {
    return absl::InvalidArgumentError(
        absl::StrCat("group '", hyper.name,
                     "': its patterns cannot change: who is in a group is "
                     "settled when the optimizer is made"));
  }
  return absl::OkStatus();
}

PlanOptions PlanOptionsOf(const OptimizerOptions& options, int shards,
                          int ranks) {
  PlanOptions plan;
  plan.algorithm = options.algorithm;
  for (const HyperGroup& group : options.hyper_groups) {
    plan.group_algorithms.push_back(group.algorithm);
  }
  plan.ranks = shards;
  plan.replicas = ranks / shards;
  plan.stage = options.stage;
  plan.model = options.model;
  plan.naming = options.naming;
  plan.value_blocks = options.value_blocks;
  plan.second_moment = options.second_moment;
  plan.blocks = options.blocks;
  plan.memory = options.memory;
  plan.bucket_bytes = options.bucket_bytes;
  plan.buffer_budget_bytes = options.buffer_budget_bytes;
  plan.bucketing = options.bucketing;
  plan.copy_cost = options.copy_cost;
  plan.collective_cost_bytes = options.collective_cost_bytes;
  return plan;
}

}  // namespace zeromini
