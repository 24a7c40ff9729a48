// Column sums that do not depend on how rows are divided: see ColumnSums in
// zeromini/kernels.h. Arithmetic that every device shares.
//
// An addend x >= 0 of a column is taken in digits of 15 bits at fixed places;
// top(x) numbers, from 1, the digit that its leading bit is in. Summed is
// floor(x / u), u being the unit of the column's largest top: the lowest of
// three digits, so that an addend is less than 2^45 units and kMaxColumnAddends
// of them fit an int64_t. floor(floor(x / u) / 2^15) is floor(x / (u 2^15)), so
// a rank whose own top is lower than the agreed one drops digits and has the
// sum that it would have taken at that unit.
//
// The error of a sum: less than one unit an addend, and a unit is less than
// 2^-30 of the largest addend.

#ifndef ZEROMINI_KERNELS_COLUMN_SUM_H_
#define ZEROMINI_KERNELS_COLUMN_SUM_H_

#include <cmath>
#include <cstdint>

#include "zeromini/kernels.h"

namespace zeromini {

inline constexpr int kColumnDigitBits = 15;
inline constexpr uint8_t kColumnNotFinite = 255;

// Squares of fp32 numbers are 0 or at least 2^-298; what they are taken as
// divided by is at most 2^90.
inline constexpr int kColumnBias = 390;

// `exponent`: ColumnSums::exponent.
inline uint8_t ColumnTop(double addend, int exponent) {
  if (addend == 0) return 0;
  if (!std::isfinite(addend)) return kColumnNotFinite;
  return static_cast<uint8_t>(
      1 + (std::ilogb(addend) - exponent + kColumnBias) / kColumnDigitBits);
}

// The exponent of 2 of the unit of columns with that top, which is neither 0
// nor kColumnNotFinite.
constexpr int ColumnUnitExponent(int top, int exponent) {
  return kColumnDigitBits * (top - kColumnDigits) - kColumnBias + exponent;
}

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_COLUMN_SUM_H_
