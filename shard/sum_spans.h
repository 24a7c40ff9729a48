// What one pass over a landed gradient sums up, by the plan and the options
// alone: which sums a step needs, and the spans that its kernel reads.

#ifndef ZEROMINI_SHARD_SUM_SPANS_H_
#define ZEROMINI_SHARD_SUM_SPANS_H_

#include <vector>

#include "shard/shard_layout.h"
#include "zeromini/kernels.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// True if the norm and the finite flag decide something.
bool NeedsStatistics(const OptimizerOptions& options);

// What a step's update asks of the gradient beside itself.
struct SumsNeeded {
  bool all = false;   // Of every block, and the norm; else split blocks' only.
  bool late = false;  // Taken in Step(), after clipping by value.
};
SumsNeeded SumsOf(const Plan& plan, const OptimizerOptions& options);

// Of a rank's segment of `bucket` that lies as `wire` says. Spans of matrices
// with column averages are always among them. `slice`: of the
// rank's experts.
std::vector<SumSpan> SumSpansOf(const Plan& plan, const ShardLayout& layout,
                                const WireLayout& wire, bool all, int slice);

// Spans that SumSpansOf() gives for one run.
int64_t CountSumSpans(const RunState& state, bool all);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_SUM_SPANS_H_
