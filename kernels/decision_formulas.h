// How a step is decided, constexpr: a kernel of another device takes the same
// functions, and so has the same bits. Nothing but the words, which are the
// same on all ranks, and what the host knows alike may decide.

#ifndef ZEROMINI_KERNELS_DECISION_FORMULAS_H_
#define ZEROMINI_KERNELS_DECISION_FORMULAS_H_

#include <cstdint>
#include <limits>

#include "kernels/limb_rounding.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/kernels.h"

namespace zeromini {

// Of parameters, over all ranks.
struct GradientCounts {
  int64_t missing = 0;  // Required, but not from every rank.
  int64_t absent = 0;
  int64_t not_finite = 0;
};

constexpr bool IsPresent(const int64_t* words, const DecisionParam& param) {
  return param.word >= 0 && words[param.word] % kNotFiniteUnit > 0;
}

constexpr void CountGradient(const int64_t* words, const DecisionParam& param,
                             const DecisionInput& input,
                             GradientCounts& counts) {
  if (param.word < 0) return;
  const int64_t ranks = words[param.word] % kNotFiniteUnit;
  if (ranks == 0) ++counts.absent;
  if (input.require_all != 0 && ranks != input.ranks) ++counts.missing;
  if (words[param.word] / kNotFiniteUnit > 0) ++counts.not_finite;
}

constexpr bool Agree(const int64_t* words, const DecisionInput& input) {
  return static_cast<uint64_t>(words[kAgreementWord]) ==
         input.agreement * static_cast<uint64_t>(input.ranks);
}

constexpr Verdict VerdictOf(const int64_t* words, const DecisionInput& input,
                            const GradientCounts& counts, double grad_norm) {
  if (!Agree(words, input)) return Verdict::kDisagreement;
  if (input.refused != 0) return Verdict::kRefused;
  if (counts.missing > 0) return Verdict::kAbsent;
  // Sums that only the update needs decide nothing: which there are depends on
  // the number of ranks and on formats.
  if (input.has_statistics == 0) return Verdict::kUpdate;
  if (counts.not_finite > 0) return Verdict::kNotFinite;
  if (input.skip_above > 0 && grad_norm > input.skip_above) {
    return Verdict::kNormTooLarge;
  }
  return Verdict::kUpdate;
}

// `root` is the square root of the norm's rounded limbs, `updates` the steps
// with an update before this one.
constexpr StepDecision DecisionOf(const int64_t* words,
                                  const DecisionInput& input,
                                  const GradientCounts& counts, double root,
                                  int64_t updates) {
  StepDecision decision;
  const double norm = root * input.mean_scale;
  const bool has_statistics = input.has_statistics != 0;
  decision.verdict = VerdictOf(words, input, counts, norm);
  decision.updates = updates + (decision.verdict == Verdict::kUpdate ? 1 : 0);
  decision.absent = counts.absent;
  // Of rows that are not finite the norm has no part, and is none then.
  decision.grad_norm = has_statistics && counts.not_finite == 0
                           ? norm
                           : std::numeric_limits<double>::quiet_NaN();
  if (has_statistics && input.max_grad_norm > 0 && norm > input.max_grad_norm) {
    // As torch.nn.utils.clip_grad_norm_, whose 1e-6 guards a zero norm.
    decision.clip_scale = input.max_grad_norm / (norm + 1e-6);
  }
  return decision;
}

// After args.decision is made, and before args.steps moves.
constexpr StepScalars ScalarsOf(const DecideArgs& args, int64_t index) {
  const DecisionParam& param = args.params[index];
  StepScalars scalars = args.hyper[param.group];
  const bool updates = args.decision->verdict == Verdict::kUpdate &&
                       IsPresent(args.words, param);
  if (param.decays == 0) scalars.weight_decay = 0;
  scalars.step = args.steps[index] + (updates ? 1 : 0);
  scalars.gradient_scale = args.input->mean_scale * args.decision->clip_scale;
  scalars.update = updates ? 1 : 0;
  return scalars;
}

// As BlockSum() of all rows: NaN or infinite if one of them is.
constexpr double SplitSum(const int64_t* split_words) {
  const int64_t not_finite = split_words[kSplitNotFiniteWord];
  if (not_finite >= kNotFiniteUnit) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (not_finite > 0) return std::numeric_limits<double>::infinity();
  return RoundLimbs(split_words);
}

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_DECISION_FORMULAS_H_
