#include "kernels/decide.h"

#include <cmath>

#include "kernels/decision_formulas.h"

namespace zeromini {

void Decide(const DecideArgs& args) {
  const DecisionInput& input = *args.input;
  GradientCounts counts;
  for (int64_t p = 0; p < args.num_params; ++p) {
    CountGradient(args.words, args.params[p], input, counts);
  }
  const double root = std::sqrt(RoundLimbs(args.words));
  *args.decision =
      DecisionOf(args.words, input, counts, root, args.decision->updates);
  for (int64_t p = 0; p < args.num_params; ++p) {
    args.scalars[p] = ScalarsOf(args, p);
    if (args.scalars[p].update != 0) args.steps[p] = args.scalars[p].step;
  }
  for (int64_t s = 0; s < args.num_splits; ++s) {
    const SplitTarget& split = args.splits[s];
    *split.block_sum = SplitSum(args.words + split.words_at);
  }
}

}  // namespace zeromini
