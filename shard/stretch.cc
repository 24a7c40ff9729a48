#include "shard/stretch.h"

#include <algorithm>

#include "shard/units.h"
#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

bool MaySplit(const PlannedParam& param) {
  return !param.blocks.empty() && HasPlainUnits(param);
}

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

}  // namespace

std::vector<Stretch> StretchesOf(absl::Span<const PlannedParam* const> params,
                                 int ranks) {
  int64_t total = 0;
  for (const PlannedParam* param : params) {
    total += param->rows * param->row_elements;
  }
  const int64_t limit = CeilDiv(total, ranks);
  std::vector<Stretch> stretches;
  for (size_t i = 0; i < params.size(); ++i) {
    const PlannedParam& param = *params[i];
    int64_t row = 0;
    while (row < param.rows) {
      for (const UnitSegment& segment : param.units) {
        const Stretch stretch{static_cast<int>(i), row, segment.rows_per_unit,
                              segment.rows / segment.rows_per_unit,
                              segment.rows_per_unit * param.row_elements};
        row += segment.rows;
        if (stretch.unit_elements > limit && stretch.unit_rows > 1 &&
            MaySplit(param)) {
          AppendPieces(stretch, limit, param.row_elements, &stretches);
        } else {
          Append(stretch, &stretches);
        }
      }
    }
    ZEROMINI_CHECK(row == param.rows);
  }
  return stretches;
}

BlockPlace PlaceOf(absl::Span<const BlockSegment> pattern, int64_t row) {
  int64_t period = 0;
  int64_t blocks = 0;
  for (const BlockSegment& segment : pattern) {
    period += segment.rows;
    blocks += segment.rows / segment.rows_per_block;
  }
  ZEROMINI_CHECK(period > 0);
  int64_t first_row = row / period * period;
  int64_t first_block = row / period * blocks;
  for (const BlockSegment& segment : pattern) {
    if (row < first_row + segment.rows) {
      const int64_t at = (row - first_row) / segment.rows_per_block;
      return {first_block + at, first_row + at * segment.rows_per_block,
              segment.rows_per_block, first_row + segment.rows};
    }
    first_row += segment.rows;
    first_block += segment.rows / segment.rows_per_block;
  }
  ZEROMINI_CHECK(false);
  return {};
}

}  // namespace zeromini
