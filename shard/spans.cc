#include <algorithm>

#include "shard/stretch.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

// Rows of a block that count in its mean. A block of nothing but padding
// keeps its size: its gradients are zero, and so is their mean.
int64_t CountedRows(const PlannedParam& param, int64_t first_row,
                    int64_t rows) {
  const int64_t live = param.rows - param.padding_rows;
  const int64_t counted = std::min(rows, live - first_row);
  return counted > 0 ? counted : rows;
}

}  // namespace

int64_t ColumnGroupRowsOf(int64_t matrix_rows, BlockCuts cuts) {
  if (cuts == BlockCuts::kSplitAtCuts) return 1;
  const bool large = matrix_rows >= 64 * kColumnGroupRows;
  return large && matrix_rows % kColumnGroupRows == 0 ? kColumnGroupRows : 1;
}

std::vector<ColumnedMatrix> MatricesOf(const PlannedParam& param) {
  std::vector<ColumnedMatrix> matrices;
  for (int64_t row = 0; row < param.rows && !param.blocks.empty();) {
    for (const BlockSegment& segment : param.blocks) {
      if (segment.form != MomentForm::kBlocks) {
        matrices.push_back({segment.form, row, segment.rows,
                            CountedRows(param, row, segment.rows)});
      }
      row += segment.rows;
    }
  }
  return matrices;
}

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
    span.form = place.form;
    span.matrix = place.has_columns() ? place.matrix : -1;
    span.blocks = 1;
    span.rows_per_block = std::min(end, place.first_row + place.rows) - row;
    span.block_elements =
        CountedRows(param, place.first_row, place.rows) * param.row_elements;
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
        spans.back().block_elements == span.block_elements &&
        spans.back().form == span.form && spans.back().matrix == span.matrix) {
      spans.back().blocks += span.blocks;
    } else {
      spans.push_back(span);
    }
  }
  return spans;
}

}  // namespace zeromini
