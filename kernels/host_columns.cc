#include "kernels/host_columns.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/column_sum.h"

namespace zeromini {
namespace {

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

}  // namespace

void AddToColumn(double addend, int64_t column, const ColumnSums& sums) {
  const uint8_t top = ColumnTop(addend);
  if (top == 0 || sums.tops[column] == kColumnNotFinite) return;
  if (top > sums.tops[column]) RaiseTop(top, column, sums);
  if (top == kColumnNotFinite) return;
  const auto units = static_cast<int64_t>(
      std::ldexp(addend, -ColumnUnitExponent(sums.tops[column])));
  for (int k = 0; k < kColumnDigits; ++k) {
    sums.digits[k * sums.columns + column] += units >> (k * kColumnDigitBits);
  }
}

bool TakesColumns(const StatisticsArgs& args, const SumSpan& span) {
  return args.counts && span.columns_at >= 0;
}

void AddColumns(const StatisticsArgs& args, const SumSpan& span) {
  const int64_t n = span.row_elements;
  for (int64_t row = 0; row < span.rows; row += span.group_rows) {
    const float* group = args.gradient + span.first_element + row * n;
    for (int64_t column = 0; column < n; ++column) {
      double addend = 0;
      for (int64_t r = 0; r < span.group_rows; ++r) {
        const double g = group[r * n + column];
        addend += g * g;
      }
      AddToColumn(addend, span.columns_at + column, args.columns);
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

double ColumnSum(int64_t word, uint8_t agreed) {
  if (agreed == kColumnNotFinite) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  if (agreed == 0) return 0;
  return std::ldexp(static_cast<double>(word), ColumnUnitExponent(agreed));
}

}  // namespace zeromini
