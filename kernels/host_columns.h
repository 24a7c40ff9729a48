// Column sums on the host: what its tables share. kernels/column_sum.h has the
// arithmetic; as it is of integers there is nothing to do twice.

#ifndef ZEROMINI_KERNELS_HOST_COLUMNS_H_
#define ZEROMINI_KERNELS_HOST_COLUMNS_H_

#include "zeromini/kernels.h"

namespace zeromini {

// Whole groups of rows of one matrix.
struct ColumnRowsArgs {
  const float* gradient;  // [rows, row_elements]
  int64_t rows;
  int64_t row_elements;
  double* row_sums;  // [rows]
  int64_t group_rows;
  ColumnSums columns;  // From the matrix's first column on.
};

// Whether a span's columns are to be summed.
bool TakesColumns(const StatisticsArgs& args, const SumSpan& span);

// Rows [first_row, first_row + rows) of the span.
ColumnRowsArgs ColumnRows(const StatisticsArgs& args, const SumSpan& span,
                          int64_t first_row, int64_t rows);

// Adds the columns from `first` on; `row_sums` are not set.
void AddColumns(const ColumnRowsArgs& args, int64_t first);

// Raises the tops of columns whose addend needs it, or is not finite, and makes
// the addends of what is not finite 0.
void RaiseTops(double* addends, int64_t columns, const ColumnSums& sums);

// As in ColumnArgs.
void TakeColumnTops(const ColumnArgs& args);
void TakeColumnWords(const ColumnArgs& args);

// The agreed sum: NaN if an addend is not finite.
double ColumnSum(int64_t word, uint8_t agreed, int exponent);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_HOST_COLUMNS_H_
