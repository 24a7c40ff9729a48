#include "kernels/exact_sum.h"

#include <bit>
#include <cmath>

#include "kernels/limb_rounding.h"
#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

// Each addition puts less than 2^32 into a limb, so limbs stay below 2^40.
constexpr int kAdditionsPerCarry = (1 << 8) - 1;

}  // namespace

ExactSum::ExactSum() : limbs_{}, pending_(0) {}

void ExactSum::Add(double value) {
  const uint64_t bits = std::bit_cast<uint64_t>(value);
  if (bits == 0) return;
  const int exponent = static_cast<int>(bits >> 52);
  // A sign bit makes `exponent` at least 2048, a non-finite value 2047.
  ZEROMINI_CHECK(exponent > 0 && exponent < 2047);
  uint64_t mantissa = (bits & ((uint64_t{1} << 52) - 1)) | (uint64_t{1} << 52);
  int shift = exponent - 1023 - 52 - kUnitExponent;
  if (shift < 0) {
    ZEROMINI_CHECK(shift > -53 && std::countr_zero(mantissa) >= -shift);
    mantissa >>= -shift;
    shift = 0;
  }
  ZEROMINI_CHECK(shift + 53 <= kLimbs * kLimbBits);
  const int limb = shift / kLimbBits;
  const int offset = shift % kLimbBits;
  const uint64_t low = (mantissa & kLimbMask) << offset;
  const uint64_t high = (mantissa >> kLimbBits) << offset;
  const uint64_t middle = (low >> kLimbBits) + (high & kLimbMask);
  limbs_[limb] += static_cast<int64_t>(low & kLimbMask);
  const int64_t parts[] = {
      static_cast<int64_t>(middle & kLimbMask),
      static_cast<int64_t>((middle >> kLimbBits) + (high >> kLimbBits))};
  for (int i = 0; i < 2; ++i) {
    if (parts[i] != 0) limbs_[limb + 1 + i] += parts[i];
  }
  if (++pending_ == kAdditionsPerCarry) Normalize();
}

void ExactSum::AddSquare(float value) {
  const double wide = value;
  Add(wide * wide);
}

bool ExactSum::AddSquares(const float* values, int64_t count) {
  bool finite = true;
  for (const float* end = values + count; values != end; ++values) {
    if (std::isfinite(*values)) {
      AddSquare(*values);
    } else {
      finite = false;
    }
  }
  return finite;
}

void ExactSum::AddLimbs(const int64_t* limbs) {
  for (int i = 0; i < kLimbs; ++i) {
    ZEROMINI_CHECK(limbs[i] >= 0 && limbs[i] <= int64_t{1} << 62);
    limbs_[i] += limbs[i];
  }
  Normalize();
}

void ExactSum::AddTo(int64_t* limbs) {
  Normalize();
  for (int i = 0; i < kLimbs; ++i) limbs[i] += limbs_[i];
}

void ExactSum::Normalize() {
  CarryLimbs(limbs_.data());
  ZEROMINI_CHECK(limbs_[kLimbs - 1] <= kLimbMask);
  pending_ = 0;
}

double ExactSum::Round(const int64_t* limbs) { return RoundLimbs(limbs); }

BlockSummer::BlockSummer(int64_t rows) : single_row_(rows == 1), rounded_(0) {}

void BlockSummer::Add(double row_sum) {
  if (!single_row_ && std::isfinite(row_sum)) {
    sum_.Add(row_sum);
  } else {
    rounded_ += row_sum;
  }
}

double BlockSummer::Take() {
  const double total = single_row_ || rounded_ != 0 ? rounded_ : sum_.Rounded();
  sum_ = ExactSum();
  rounded_ = 0;
  return total;
}

double BlockSum(const double* row_sums, int64_t rows) {
  BlockSummer summer(rows);
  for (int64_t r = 0; r < rows; ++r) summer.Add(row_sums[r]);
  return summer.Take();
}

}  // namespace zeromini
