#include "shard/stretch.h"

#include <algorithm>

#include "shard/units.h"
#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

void Append(const Stretch& stretch, std::vector<Stretch>* out) {
  if (stretch.units == 0) return;
  if (!out->empty()) {
    Stretch& last = out->back();
    if (last.param == stretch.param && last.unit_rows == stretch.unit_rows &&
        last.first_row + last.units * last.unit_rows == stretch.first_row) {
      last.units += stretch.units;
      return;
    }
  }
  out->push_back(stretch);
}

void AppendPieces(const Stretch& stretch, int64_t limit, int64_t row_elements,
                  std::vector<Stretch>* out) {
  const int64_t pieces =
      std::min(stretch.unit_rows, CeilDiv(stretch.unit_elements, limit));
  const int64_t rows = CeilDiv(stretch.unit_rows, pieces);
  if (stretch.unit_rows % rows == 0) {
    Append({stretch.param, stretch.first_row, rows,
            stretch.units * (stretch.unit_rows / rows), rows * row_elements},
           out);
    return;
  }
  for (int64_t unit = 0; unit < stretch.units; ++unit) {
    const int64_t first = stretch.first_row + unit * stretch.unit_rows;
    const int64_t full = stretch.unit_rows / rows;
    const int64_t rest = stretch.unit_rows % rows;
    Append({stretch.param, first, rows, full, rows * row_elements}, out);
    Append({stretch.param, first + full * rows, rest, rest > 0 ? 1 : 0,
            rest * row_elements},
           out);
  }
}

// The rows begin `offset` rows behind an edge of units of `unit_rows`.
void AppendUnits(const Slice& rows, int64_t offset, int64_t unit_rows,
                 int position, std::vector<Stretch>* out) {
  const int64_t end = rows.first_row + rows.rows;
  for (int64_t row = rows.first_row; row < end;) {
    const int64_t behind = (offset + row - rows.first_row) % unit_rows;
    const int64_t own = std::min(unit_rows - behind, end - row);
    const int64_t units = own == unit_rows ? (end - row) / unit_rows : 1;
    ZEROMINI_CHECK(own == unit_rows || MaySplit(*rows.param));
    Append({position, row, own, units, own * rows.param->row_elements}, out);
    row += units * own;
  }
}

int64_t PeriodOf(const PlannedParam& param) {
  int64_t period = 0;
  for (const UnitSegment& segment : param.units) period += segment.rows;
  ZEROMINI_CHECK(period > 0);
  return period;
}

}  // namespace

std::vector<Slice> WholeSlices(absl::Span<const int> indices,
                               const std::vector<PlannedParam>& params) {
  std::vector<Slice> slices;
  for (int index : indices) {
    slices.push_back({&params[index], 0, params[index].rows});
  }
  return slices;
}

Stretch RowsOf(const Stretch& stretch) {
  return {stretch.param, stretch.first_row, 1,
          stretch.units * stretch.unit_rows,
          stretch.unit_elements / stretch.unit_rows};
}

bool HasMatrices(const PlannedParam& param) {
  return std::any_of(param.blocks.begin(), param.blocks.end(),
                     [](const BlockSegment& segment) {
                       return segment.form != MomentForm::kBlocks;
                     });
}

bool MaySplit(const PlannedParam& param) {
  return !param.blocks.empty() && HasPlainUnits(param) && !HasMatrices(param);
}

std::vector<Stretch> UnitsOf(const Slice& slice, int position) {
  const PlannedParam& param = *slice.param;
  const int64_t period = PeriodOf(param);
  const int64_t end = slice.first_row + slice.rows;
  std::vector<Stretch> stretches;
  int64_t row = slice.first_row / period * period;
  while (row < end) {
    for (const UnitSegment& segment : param.units) {
      const int64_t first = std::max(row, slice.first_row);
      const int64_t stop = std::min(row + segment.rows, end);
      row += segment.rows;
      if (first >= stop) continue;
      const Slice rows = {&param, first, stop - first};
      AppendUnits(rows, first - (row - segment.rows), segment.rows_per_unit,
                  position, &stretches);
    }
  }
  return stretches;
}

std::vector<Stretch> StretchesOf(absl::Span<const Slice> slices, int ranks,
                                 BlockCuts blocks) {
  int64_t total = 0;
  for (const Slice& slice : slices) total += slice.elements();
  const int64_t limit = CeilDiv(total, ranks);
  std::vector<Stretch> stretches;
  for (size_t i = 0; i < slices.size(); ++i) {
    const PlannedParam& param = *slices[i].param;
    const bool may_split = MaySplit(param);
    const bool at_rows = may_split && blocks == BlockCuts::kSplitAtCuts;
    for (const Stretch& stretch : UnitsOf(slices[i], static_cast<int>(i))) {
      const bool large = stretch.unit_elements > limit && may_split;
      if (stretch.unit_rows > 1 && (at_rows || large)) {
        AppendPieces(stretch, at_rows ? param.row_elements : limit,
                     param.row_elements, &stretches);
      } else {
        Append(stretch, &stretches);
      }
    }
  }
  return stretches;
}

BlockPlace PlaceOf(absl::Span<const BlockSegment> pattern, int64_t row) {
  int64_t period = 0;
  int64_t blocks = 0;
  int64_t matrices = 0;
  for (const BlockSegment& segment : pattern) {
    period += segment.rows;
    blocks += BlockScalars(segment);
    matrices += segment.form != MomentForm::kBlocks ? 1 : 0;
  }
  ZEROMINI_CHECK(period > 0);
  int64_t first_row = row / period * period;
  int64_t first_block = row / period * blocks;
  int64_t matrix = row / period * matrices;
  for (const BlockSegment& segment : pattern) {
    if (row < first_row + segment.rows) {
      const int64_t at = (row - first_row) / segment.rows_per_block;
      const int64_t scalars = BlockScalars(segment) > 0 ? at : 0;
      return {first_block + scalars,  first_row + at * segment.rows_per_block,
              segment.rows_per_block, first_row + segment.rows,
              segment.form,           matrix};
    }
    first_row += segment.rows;
    first_block += BlockScalars(segment);
    matrix += segment.form != MomentForm::kBlocks ? 1 : 0;
  }
  ZEROMINI_CHECK(false);
  return {};
}

IndexRange BlocksIn(absl::Span<const BlockSegment> pattern, int64_t first_row,
                    int64_t rows) {
  if (pattern.empty()) return {};
  const BlockPlace last = PlaceOf(pattern, first_row + rows - 1);
  return {PlaceOf(pattern, first_row).block,
          last.block + (last.has_scalar() ? 1 : 0)};
}

IndexRange MatricesIn(absl::Span<const BlockSegment> pattern, int64_t first_row,
                      int64_t rows) {
  if (pattern.empty()) return {};
  const BlockPlace last = PlaceOf(pattern, first_row + rows - 1);
  return {PlaceOf(pattern, first_row).matrix,
          last.matrix + (last.has_columns() ? 1 : 0)};
}

}  // namespace zeromini
