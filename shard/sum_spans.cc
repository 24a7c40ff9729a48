#include "shard/sum_spans.h"

#include <algorithm>

#include "shard/step_words.h"
#include "shard/units.h"

namespace zeromini {
namespace {

// Of a run whose v is kept per element, or that keeps none: rows for the norm.
SumSpan ElementSpan(const RunState& state, const WireLayout& wire) {
  const Run& run = *state.run;
  const PlannedParam& param = *state.param;
  const int64_t elements = wire.ElementsOf(param, run);
  const bool by_rows = elements == run.rows * param.row_elements;
  SumSpan sum;
  sum.first_element = wire.OffsetOf(run);
  sum.param_word = ParamWord(run.param);
  sum.row_elements =
      by_rows ? param.row_elements
              : ProjectedRowElements(param, &UnitSegment::wire_elements);
  sum.rows = elements / sum.row_elements;
  return sum;
}

bool IsSummed(const SpanState& block, bool all) {
  return all || block.split >= 0 || block.span.matrix >= 0;
}

SumSpan BlockSum(const RunState& state, const SpanState& block,
                 const WireLayout& wire) {
  const Run& run = *state.run;
  const int64_t row_elements = state.param->row_elements;
  SumSpan sum;
  sum.first_element = wire.OffsetOf(run) +
                      (block.span.first_row - run.first_row) * row_elements;
  sum.param_word = ParamWord(run.param);
  sum.rows = block.span.blocks * block.span.rows_per_block;
  sum.row_elements = row_elements;
  sum.sums_at = block.sums_offset;
  if (block.span.matrix >= 0) {
    sum.columns_at = block.columns_at;
    sum.group_rows = UnitRowsAt(*state.param, block.span.first_row);
  }
  return sum;
}

}  // namespace

bool NeedsStatistics(const OptimizerOptions& options) {
  return options.non_finite != NonFiniteGradients::kIgnore ||
         options.max_grad_norm > 0 || options.skip_above_grad_norm > 0 ||
         options.max_grad_value > 0;
}

// A tile of a coded shard is no whole block, so the sums of all must be there
// before. What is clipped by value needs the loss scale, which Step() brings.
SumsNeeded SumsOf(const Plan& plan, const OptimizerOptions& options) {
  return {NeedsStatistics(options) || HasCodedShards(plan, options),
          options.max_grad_value > 0};
}

int64_t CountSumSpans(const RunState& state, bool all) {
  if (state.param->element_state) return all ? 1 : 0;
  return std::count_if(
      state.spans.begin(), state.spans.end(),
      [all](const SpanState& block) { return IsSummed(block, all); });
}

std::vector<SumSpan> SumSpansOf(const Plan& plan, const ShardLayout& layout,
                                const WireLayout& wire, bool all, int slice) {
  std::vector<SumSpan> spans;
  for (const RunState& state : layout.runs) {
    if (state.param->element_state) {
      if (all) spans.push_back(ElementSpan(state, wire));
      continue;
    }
    for (const SpanState& block : state.spans) {
      if (!IsSummed(block, all)) continue;
      SumSpan sum = BlockSum(state, block, wire);
      if (block.split < 0) {
        sum.rows_per_block =
            block.span.scalars() > 0 ? block.span.rows_per_block : 0;
      } else {
        sum.split_words = SplitWordsOf(plan, block.split, slice);
      }
      spans.push_back(sum);
    }
  }
  return spans;
}

}  // namespace zeromini
