#include "kernels/host_columns.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/column_sum.h"

namespace zeromini {
namespace {

constexpr int64_t kColumnsAtOnce = 64;

// What is dropped of a digit was less than one of the next.
void RaiseTop(uint8_t top, int64_t column, const ColumnSums& sums) {
  const int by = top - sums.tops[column];
  for (int k = 0; k < kColumnDigits; ++k) {
    sums.digits[k * sums.columns + column] =
        k + by < kColumnDigits ? sums.digits[(k + by) * sums.columns + column]
                               : 0;
  }
  sums.tops[column] = top;
}

// Of a rank whose own top is `top`.
int64_t WordOf(const ColumnSums& sums, int64_t column, uint8_t agreed) {
  const uint8_t top = sums.tops[column];
  if (top == 0 || agreed == kColumnNotFinite) return 0;
  const int dropped = agreed - top;
  return dropped < kColumnDigits ? sums.digits[dropped * sums.columns + column]
                                 : 0;
}

ColumnSums From(const ColumnSums& sums, int64_t first) {
  return {sums.digits + first, sums.tops + first, sums.columns, sums.exponent};
}

// None of a span whose columns are not taken: there may be no arrays at all.
ColumnSums SumsOf(const StatisticsArgs& args, const SumSpan& span) {
  return TakesColumns(args, span) ? From(args.columns, span.columns_at)
                                  : ColumnSums();
}

void AddDigits(double addend, int64_t column, const ColumnSums& sums) {
  if (addend == 0) return;
  const auto units = static_cast<int64_t>(std::ldexp(
      addend, -ColumnUnitExponent(sums.tops[column], sums.exponent)));
  for (int k = 0; k < kColumnDigits; ++k) {
    sums.digits[k * sums.columns + column] += units >> (k * kColumnDigitBits);
  }
}

void AddGroup(const ColumnRowsArgs& args, int64_t row, int64_t first,
              int64_t columns) {
  double addends[kColumnsAtOnce] = {};
  for (int64_t r = row; r < row + args.group_rows; ++r) {
    const float* const in = args.gradient + r * args.row_elements + first;
    for (int64_t j = 0; j < columns; ++j) {
      addends[j] += static_cast<double>(in[j]) * in[j];
    }
  }
  const ColumnSums sums = From(args.columns, first);
  RaiseTops(addends, columns, sums);
  for (int64_t j = 0; j < columns; ++j) AddDigits(addends[j], j, sums);
}

}  // namespace

void RaiseTops(double* addends, int64_t columns, const ColumnSums& sums) {
  for (int64_t j = 0; j < columns; ++j) {
    const uint8_t top = ColumnTop(addends[j], sums.exponent);
    if (top > sums.tops[j]) RaiseTop(top, j, sums);
    if (sums.tops[j] == kColumnNotFinite) addends[j] = 0;
  }
}

bool TakesColumns(const StatisticsArgs& args, const SumSpan& span) {
  return args.counts && span.columns_at >= 0;
}

ColumnRowsArgs ColumnRows(const StatisticsArgs& args, const SumSpan& span,
                          int64_t first_row, int64_t rows) {
  const float* const gradient =
      args.gradient + span.first_element + first_row * span.row_elements;
  return {gradient,          rows, span.row_elements, nullptr, span.group_rows,
          SumsOf(args, span)};
}

void AddColumns(const ColumnRowsArgs& args, int64_t first) {
  for (int64_t row = 0; row < args.rows; row += args.group_rows) {
    for (int64_t j = first; j < args.row_elements; j += kColumnsAtOnce) {
      AddGroup(args, row, j, std::min(kColumnsAtOnce, args.row_elements - j));
    }
  }
}

void TakeColumnTops(const ColumnArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    const ColumnMatrix& matrix = args.matrices[i];
    std::copy_n(args.sums.tops + matrix.local_at, matrix.columns,
                args.agreed + matrix.shared_at);
  }
}

void TakeColumnWords(const ColumnArgs& args) {
  for (int64_t i = 0; i < args.count; ++i) {
    const ColumnMatrix& matrix = args.matrices[i];
    for (int64_t j = 0; j < matrix.columns; ++j) {
      args.words[matrix.shared_at + j] = WordOf(
          args.sums, matrix.local_at + j, args.agreed[matrix.shared_at + j]);
    }
    std::fill_n(args.sums.tops + matrix.local_at, matrix.columns, uint8_t{0});
    for (int k = 0; k < kColumnDigits; ++k) {
      std::fill_n(args.sums.digits + k * args.sums.columns + matrix.local_at,
                  matrix.columns, int64_t{0});
    }
  }
}

double ColumnSum(int64_t word, uint8_t agreed, int exponent) {
  if (agreed == kColumnNotFinite) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (agreed == 0) return 0;
  return std::ldexp(static_cast<double>(word),
                    ColumnUnitExponent(agreed, exponent));
}

}  // namespace zeromini
