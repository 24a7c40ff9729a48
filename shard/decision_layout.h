// DecisionLayout: what a step's decision reads and writes, in bytes, by the
// plan and the options alone.

#ifndef ZEROMINI_SHARD_DECISION_LAYOUT_H_
#define ZEROMINI_SHARD_DECISION_LAYOUT_H_

#include <cstdint>

#include "shard/column_layout.h"
#include "shard/step_words.h"
#include "zeromini/kernels.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Steps whose decision the host has not read that may be in flight.
inline constexpr int kDecisionsInFlight = 2;

struct DecisionLayout {
  int64_t words = 0;  // Of the step's all-reduce; see scalar_words.h.
  // The words after those, one a column: see ColumnArgs.
  int64_t columns = 0;
  // Parts of a step's input, in bytes from its begin: words to add, then these.
  int64_t input_at = 0;
  int64_t hyper_at = 0;
  int64_t params_at = 0;
  int64_t in_bytes = 0;
  int64_t scalars_bytes = 0;  // StepScalars by parameter.

  int64_t word_bytes() const { return words * int64_t{sizeof(int64_t)}; }
  int64_t summed_bytes() const {
    return (words + columns) * int64_t{sizeof(int64_t)};
  }
  // What the host reads: StepDecision, then the words.
  int64_t out_bytes() const {
    return word_bytes() + int64_t{sizeof(StepDecision)};
  }
  // In device memory, and of the host's copies.
  int64_t bytes() const {
    return summed_bytes() + int64_t{sizeof(StepDecision)} + in_bytes +
           scalars_bytes + kDecisionsInFlight * (in_bytes + out_bytes());
  }
};

inline DecisionLayout DecisionLayoutOf(const Plan& plan,
                                       const OptimizerOptions& options) {
  const auto params = static_cast<int64_t>(plan.params.size());
  const auto groups = static_cast<int64_t>(options.hyper_groups.size());
  DecisionLayout layout;
  layout.words = WordsOf(plan, options.expert_slices);
  layout.columns = SharedColumns(plan, options.expert_slices);
  layout.input_at = layout.word_bytes();
  layout.hyper_at = layout.input_at + int64_t{sizeof(DecisionInput)};
  layout.params_at = layout.hyper_at + groups * int64_t{sizeof(StepScalars)};
  layout.in_bytes = layout.params_at + params * int64_t{sizeof(DecisionParam)};
  layout.scalars_bytes = params * int64_t{sizeof(StepScalars)};
  return layout;
}

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_DECISION_LAYOUT_H_
