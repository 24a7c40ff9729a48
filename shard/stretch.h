// Stretches: a bucket's parameters as sequences of equal units, the form that
// layouts work on.

#ifndef ZEROMINI_SHARD_STRETCH_H_
#define ZEROMINI_SHARD_STRETCH_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "zeromini/plan.h"

namespace zeromini {

// Consecutive rows of one parameter, from one edge of its units to another; of
// units that may be split, from any row to any other.
struct Slice {
  const PlannedParam* param = nullptr;
  int64_t first_row = 0;
  int64_t rows = 0;

  int64_t elements() const { return rows * param->row_elements; }
};

// All rows of each.
std::vector<Slice> WholeSlices(absl::Span<const int> indices,
                               const std::vector<PlannedParam>& params);

// `units` consecutive units of `unit_rows` rows of one parameter.
struct Stretch {
  int param = 0;          // Position among the slices.
  int64_t first_row = 0;  // Of the parameter.
  int64_t unit_rows = 1;
  int64_t units = 0;
  int64_t unit_elements = 0;
};

// Units of a block larger than all elements / ranks become pieces at row edges,
// about equal and no larger than that: the only blocks that may be split, but
// for kSplitAtCuts, where each row is a piece. In order of slice and row.
std::vector<Stretch> StretchesOf(absl::Span<const Slice> slices, int ranks,
                                 BlockCuts blocks);

// The units as they are; a part of one that the slice begins or ends in is one
// of fewer rows.
std::vector<Stretch> UnitsOf(const Slice& slice, int position);

// Each row as a unit.
Stretch RowsOf(const Stretch& stretch);

// Some of its rows are of matrices: see MatricesOf().
bool HasMatrices(const PlannedParam& param);

// The units may be cut at row edges. Not where there are averages over columns:
// see kColumnGroupRows.
bool MaySplit(const PlannedParam& param);

// Scalars of the blocks of one segment, those of columns left out.
inline int64_t BlockScalars(const BlockSegment& segment) {
  return segment.form == MomentForm::kColumns
             ? 0
             : segment.rows / segment.rows_per_block;
}

// Where a row lies in a repeated pattern.
struct BlockPlace {
  // Index within the parameter; of kColumns that of the next that has a scalar.
  int64_t block = 0;
  int64_t first_row = 0;  // Of the block.
  int64_t rows = 0;       // Of the block.
  int64_t run_end = 0;    // Row where the segment ends.
  MomentForm form = MomentForm::kBlocks;
  int64_t matrix = 0;  // Index in MatricesOf(); of kBlocks that of the next.

  bool has_scalar() const { return form != MomentForm::kColumns; }
  bool has_columns() const { return form != MomentForm::kBlocks; }
};
BlockPlace PlaceOf(absl::Span<const BlockSegment> pattern, int64_t row);

struct IndexRange {
  int64_t begin = 0;
  int64_t end = 0;

  int64_t count() const { return end - begin; }
};
// What is at least partly in `rows` rows, of which there must be some: blocks
// that have scalars, and matrices by their index in MatricesOf(). None of an
// empty pattern.
IndexRange BlocksIn(absl::Span<const BlockSegment> pattern, int64_t first_row,
                    int64_t rows);
IndexRange MatricesIn(absl::Span<const BlockSegment> pattern, int64_t first_row,
                      int64_t rows);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_STRETCH_H_
