// What a step says when it does not update: which gradients, numbers or ranks
// are the reason.

#ifndef ZEROMINI_RUNTIME_STEP_STEP_MESSAGES_H_
#define ZEROMINI_RUNTIME_STEP_STEP_MESSAGES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "runtime/group/rank_groups.h"
#include "runtime/step/grad_road.h"
#include "runtime/step/step_decider.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// A step and what was decided of it. `step`: its number, from 1.
struct DecidedStep {
  const Plan& plan;
  const OptimizerOptions& options;
  Communicator& group;  // All ranks.
  const StepQuestion& question;
  const StepAnswer& answer;
  int64_t step;
};

// Of Verdict::kDisagreement. Collective if `together`: all ranks are here for
// the same step, and the message has the field that differs. Otherwise it has
// what this rank brought.
absl::Status SayDisagreement(const DecidedStep& decided, bool together);

// Of Verdict::kRefused.
absl::Status SayRefused(const DecidedStep& decided);

// Of Verdict::kAbsent. Collective. `road`: of this step, for what did not come
// here.
absl::Status SayAbsent(const DecidedStep& decided, const GradRoad& road);

// Of the other two: why the step was skipped.
std::string SayNotFinite(const DecidedStep& decided);
std::string SayNormTooLarge(const DecidedStep& decided);

// OK, or why fp32 kernels cannot take the numbers.
absl::Status CheckNumbers(const Plan& plan, const OptimizerOptions& options,
                          const StepQuestion& question);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_STEP_MESSAGES_H_
