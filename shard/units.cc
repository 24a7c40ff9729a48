#include "shard/units.h"

#include <algorithm>

#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

using Count = int64_t UnitSegment::*;

bool IsPlain(const UnitSegment& segment, Count count, int64_t row_elements) {
  return segment.*count == segment.rows_per_unit * row_elements;
}

// Of the rows before `row`. Only of plain units may a part be asked for: any
// other has no elements that are a row's.
int64_t CountBefore(const PlannedParam& param, Count count, int64_t row) {
  int64_t period = 0;
  int64_t period_elements = 0;
  for (const UnitSegment& segment : param.units) {
    period += segment.rows;
    period_elements += segment.rows / segment.rows_per_unit * segment.*count;
  }
  ZEROMINI_CHECK(period > 0);
  int64_t elements = row / period * period_elements;
  int64_t left = row % period;
  for (const UnitSegment& segment : param.units) {
    const int64_t rows = std::min(left, segment.rows);
    if (IsPlain(segment, count, param.row_elements)) {
      elements += rows * param.row_elements;
    } else {
      ZEROMINI_CHECK(rows % segment.rows_per_unit == 0);
      elements += rows / segment.rows_per_unit * segment.*count;
    }
    left -= rows;
  }
  return elements;
}

int64_t CountOf(const PlannedParam& param, Count count, int64_t first_row,
                int64_t rows) {
  return CountBefore(param, count, first_row + rows) -
         CountBefore(param, count, first_row);
}

}  // namespace

std::vector<UnitSegment> PlainUnits(absl::Span<const BlockSegment> pattern,
                                    int64_t row_elements, BlockCuts cuts) {
  std::vector<UnitSegment> units;
  for (const BlockSegment& segment : pattern) {
    const int64_t rows = segment.form == MomentForm::kBlocks
                             ? segment.rows_per_block
                             : ColumnGroupRowsOf(segment.rows, cuts);
    const int64_t elements = rows * row_elements;
    units.push_back({segment.rows, rows, elements, elements});
  }
  return units;
}

int64_t UnitRowsAt(const PlannedParam& param, int64_t row) {
  int64_t period = 0;
  for (const UnitSegment& segment : param.units) period += segment.rows;
  ZEROMINI_CHECK(period > 0);
  int64_t end = row / period * period;
  for (const UnitSegment& segment : param.units) {
    end += segment.rows;
    if (row < end) return segment.rows_per_unit;
  }
  ZEROMINI_CHECK(false);
  return 0;
}

bool HasPlainUnits(const PlannedParam& param) {
  return std::all_of(param.units.begin(), param.units.end(),
                     [&](const UnitSegment& segment) {
                       return IsPlain(segment, &UnitSegment::wire_elements,
                                      param.row_elements) &&
                              IsPlain(segment, &UnitSegment::state_elements,
                                      param.row_elements);
                     });
}

int64_t WireElements(const PlannedParam& param, int64_t first_row,
                     int64_t rows) {
  return CountOf(param, &UnitSegment::wire_elements, first_row, rows);
}

int64_t StateElements(const PlannedParam& param, int64_t first_row,
                      int64_t rows) {
  return CountOf(param, &UnitSegment::state_elements, first_row, rows);
}

}  // namespace zeromini
