#include <algorithm>

#include "shard/stretch.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

// Elements of a block that count in its mean. A block of nothing but padding
// keeps its size: its gradients are zero, and so is their mean.
int64_t CountedElements(const PlannedParam& param, int64_t first_row,
                        int64_t rows) {
  const int64_t live = param.rows - param.padding_rows;
  const int64_t counted = std::min(rows, live - first_row);
  return (counted > 0 ? counted : rows) * param.row_elements;
}

}  // namespace

std::vector<BlockSpan> SpansOf(const PlannedParam& param, const Run& run) {
  std::vector<BlockSpan> spans;
  if (param.blocks.empty()) return spans;
  const int64_t end = run.first_row + run.rows;
  int64_t row = run.first_row;
  while (row < end) {
    const BlockPlace place = PlaceOf(param.blocks, row);
    BlockSpan span;
    span.first_row = row;
    span.first_block = place.block;
    span.blocks = 1;
    span.rows_per_block = std::min(end, place.first_row + place.rows) - row;
    span.block_elements = CountedElements(param, place.first_row, place.rows);
    span.split = span.rows_per_block != place.rows;
    if (!span.split) {
      const int64_t stop = std::min(end, place.run_end);
      const int64_t whole = (stop - row) / place.rows;
      const int64_t live = param.rows - param.padding_rows;
      // Only the block that padding begins in has a size of its own.
      const int64_t before = (live - row) / place.rows;
      span.blocks =
          before > 0 ? std::min(whole, before) : (live > row ? 1 : whole);
    }
    row += span.blocks * span.rows_per_block;
    if (!spans.empty() && !span.split && !spans.back().split &&
        spans.back().rows_per_block == span.rows_per_block &&
        spans.back().block_elements == span.block_elements) {
      spans.back().blocks += span.blocks;
    } else {
      spans.push_back(span);
    }
  }
  return spans;
}

}  // namespace zeromini
