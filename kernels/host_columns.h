// Column sums on the host: what all its tables share. The arithmetic is of
// integers, see kernels/column_sum.h, so there is nothing to do twice.

#ifndef ZEROMINI_KERNELS_HOST_COLUMNS_H_
#define ZEROMINI_KERNELS_HOST_COLUMNS_H_

#include "zeromini/kernels.h"

namespace zeromini {

// `column` counts in `sums`, from 0.
void AddToColumn(double addend, int64_t column, const ColumnSums& sums);

// The addends of every column of the span, each at once.
void AddColumns(const StatisticsArgs& args, const SumSpan& span);

// Whether there is anything for AddColumns() to add.
bool TakesColumns(const StatisticsArgs& args, const SumSpan& span);

// As in ColumnArgs.
void TakeColumnTops(const ColumnArgs& args);
void TakeColumnWords(const ColumnArgs& args);

// The agreed sum: NaN if an addend is not finite.
double ColumnSum(int64_t word, uint8_t agreed);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_HOST_COLUMNS_H_
