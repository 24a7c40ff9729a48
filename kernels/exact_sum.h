// ExactSum: adds squares of floats, and sums of such squares, without rounding.
//
// The global norm and the statistic of a split block must not depend on how
// rows are dealt to ranks. So row sums are added as integers: 20 limbs of 32
// bits, limb 0 counting units of 2^-298, the square of the smallest float. The
// limbs of all ranks are added in an integer all-reduce, and Round() rounds the
// total once.

#ifndef ZEROMINI_KERNELS_EXACT_SUM_H_
#define ZEROMINI_KERNELS_EXACT_SUM_H_

#include <array>
#include <cstdint>

#include "zeromini/internal/scalar_words.h"

namespace zeromini {

class ExactSum {
 public:
  static constexpr int kLimbs = kLimbWords;

  ExactSum();  // Zero.

  // `value` must be finite, not negative and a multiple of 2^-298, as every sum
  // of squares of floats is, rounded to double or not; anything else is a
  // broken invariant. A total of 2^342 or more overflows: 2^86 of the largest
  // squares.
  void Add(double value);
  void AddSquare(float value);

  // Adds the squares of what is finite. True if all are.
  bool AddSquares(const float* values, int64_t count);

  // Adds the limbs of another sum, each in [0, 2^62]: an all-reduced array too.
  void AddLimbs(const int64_t* limbs);

  // Adds its own limbs, each below 2^32 then, to those of another sum: 2^30
  // such sums keep the range of Round().
  void AddTo(int64_t* limbs);

  // Each limb is in [0, 2^40], so 2^22 ranks may add theirs in int64.
  const std::array<int64_t, kLimbs>& limbs() const { return limbs_; }

  double Rounded() const { return Round(limbs_.data()); }

  // The value of kLimbs limbs, each in [0, 2^62], rounded once: to nearest,
  // ties to even.
  static double Round(const int64_t* limbs);

 private:
  // Carries, after which all limbs but the last are below 2^32.
  void Normalize();

  std::array<int64_t, kLimbs> limbs_;
  int pending_;  // Additions since the last carry.
};

// Adds up a block's row sums, which may come in any order: the row's own sum if
// there is one, otherwise their exact sum rounded once. If one is not finite:
// NaN if one is NaN, else infinity.
class BlockSummer {
 public:
  explicit BlockSummer(int64_t rows);

  void Add(double row_sum);
  double Take();  // The block's sum. Then starts the next block.

 private:
  bool single_row_;
  ExactSum sum_;
  double rounded_;  // The one row's sum, or the sum of those not finite.
};

double BlockSum(const double* row_sums, int64_t rows);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_EXACT_SUM_H_
