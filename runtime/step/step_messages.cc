#include "runtime/step/step_messages.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/group/agreement.h"
#include "runtime/options/option_checks.h"
#include "runtime/options/option_fields.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// What updates make of the groups: one in which nothing decays has no decay.
std::vector<HyperGroup> AppliedGroups(const Plan& plan,
                                      const std::vector<HyperGroup>& groups) {
  std::vector<char> decays(groups.size(), 0);
  for (const PlannedParam& param : plan.params) {
    if (param.has_state() && Decays(param, groups)) {
      decays[param.hyper_group] = 1;
    }
  }
  std::vector<HyperGroup> applied = groups;
  for (size_t g = 0; g < applied.size(); ++g) {
    if (!decays[g]) applied[g].weight_decay = 0;
  }
  return applied;
}

std::string Fields(const std::vector<OptionField>& fields) {
  return absl::StrJoin(fields, ", ",
                       [](std::string* out, const OptionField& field) {
                         absl::StrAppend(out, field.name, " ", field.value);
                       });
}

}  // namespace

absl::Status CheckNumbers(const Plan& plan, const OptimizerOptions& options,
                          const StepQuestion& question) {
  if (std::isnan(question.options.learning_rate)) {
    return absl::InvalidArgumentError(
        "the learning rate is not given, or not a number: learning_rate must "
        "be finite, 0 to move nothing");
  }
  return CheckStep(question.options, options,
                   AppliedGroups(plan, question.groups), question.mean_scale);
}

absl::Status SayDisagreement(const DecidedStep& decided, bool together) {
  const StepQuestion& question = decided.question;
  const std::vector<OptionField> fields =
      StepFields(question.options, question.number, question.groups);
  std::string difference;
  if (together) {
    ZEROMINI_RETURN_IF_ERROR(
        NameOddField(fields, decided.group.control(), &difference));
  } else {
    difference =
        absl::StrCat("rank ", decided.group.rank(), " had ", Fields(fields));
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "ranks disagree on the learning rate, loss scale or hyper-parameters "
      "of step ",
      decided.step, difference.empty() ? "" : ": ", difference,
      "; nothing was updated"));
}

absl::Status SayRefused(const DecidedStep& decided) {
  const absl::Status numbers =
      CheckNumbers(decided.plan, decided.options, decided.question);
  return absl::InvalidArgumentError(absl::StrCat(
      "step ", decided.step, ": ", numbers.message(), "; nothing was updated"));
}

absl::Status SayAbsent(const DecidedStep& decided, const GradRoad& road) {
  const Plan& plan = decided.plan;
  std::vector<int> absent;
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const int param = static_cast<int>(p);
    if (!plan.params[p].has_state()) continue;
    if (decided.answer.RanksPresent(param) < decided.group.size()) {
      absent.push_back(param);
    }
  }
  const int first = absent.front();
  // Of what shares storage, the one that has not come on some rank.
  int named = first;
  std::vector<int> ranks;
  for (int sharer : plan.params[first].sharers) {
    ZEROMINI_RETURN_IF_ERROR(
        RanksWhere(road.Lacks(first, sharer), decided.group.control(), &ranks));
    named = sharer;
    if (!ranks.empty()) break;
  }
  const std::string tie =
      named == first
          ? ""
          : absl::StrCat(" (tied to '", plan.params[first].name, "')");
  return absl::FailedPreconditionError(absl::StrCat(
      "gradient of '", plan.params[named].name, "'", tie, " is missing on rank",
      ranks.size() == 1 ? " " : "s ", absl::StrJoin(ranks, ", "), " of ",
      decided.group.size(), " in step ", decided.step,
      absent.size() > 1
          ? absl::StrCat(", and those of ", absent.size() - 1, " more")
          : "",
      "; nothing was updated (absent_gradients is kError)"));
}

std::string SayNotFinite(const DecidedStep& decided) {
  std::string first;
  int more = -1;
  for (size_t p = 0; p < decided.plan.params.size(); ++p) {
    if (decided.answer.RanksNotFinite(static_cast<int>(p)) == 0) continue;
    if (first.empty()) first = decided.plan.params[p].name;
    ++more;
  }
  return absl::StrCat(
      "gradient of '", first, "' is not finite after the sum ", "over ",
      decided.group.size(), " ranks in step ", decided.step,
      more > 0 ? absl::StrCat(", nor are those of ", more, " more") : "");
}

std::string SayNormTooLarge(const DecidedStep& decided) {
  return absl::StrCat("the gradient's norm is ",
                      decided.answer.decision.grad_norm, " in step ",
                      decided.step, ", above skip_above_grad_norm, ",
                      decided.options.skip_above_grad_norm);
}

}  // namespace zeromini
