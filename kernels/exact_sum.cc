#include "kernels/exact_sum.h"

#include <bit>
#include <cmath>

#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

constexpr int kLimbBits = 32;
constexpr int64_t kLimbMask = (int64_t{1} << kLimbBits) - 1;
constexpr int kUnitExponent = -298;
// Each addition puts less than 2^32 into a limb, so limbs stay below 2^40.
constexpr int kAdditionsPerCarry = (1 << 8) - 1;

// The last limb keeps what does not fit: it has no neighbour to carry into.
void Carry(int64_t* limbs) {
  for (int i = 0; i + 1 < ExactSum::kLimbs; ++i) {
    limbs[i + 1] += limbs[i] >> kLimbBits;
    limbs[i] &= kLimbMask;
  }
}

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

void ExactSum::AddLimbs(const int64_t* limbs) {
  for (int i = 0; i < kLimbs; ++i) {
    ZEROMINI_CHECK(limbs[i] >= 0 && limbs[i] <= int64_t{1} << 62);
    limbs_[i] += limbs[i];
  }
  Normalize();
}

void ExactSum::Normalize() {
  Carry(limbs_.data());
  ZEROMINI_CHECK(limbs_[kLimbs - 1] <= kLimbMask);
  pending_ = 0;
}

double ExactSum::Round(const int64_t* limbs) {
  int64_t carried[kLimbs];
  for (int i = 0; i < kLimbs; ++i) carried[i] = limbs[i];
  Carry(carried);
  int top = kLimbs - 1;
  while (top >= 0 && carried[top] == 0) --top;
  if (top < 0) return 0;

  // The leading 64 bits, and whether anything lies below them.
  uint64_t leading = static_cast<uint64_t>(carried[top]);
  int bits_below = top * kLimbBits;
  int next = top - 1;
  int room = std::countl_zero(leading);
  while (room > 0 && next >= 0) {
    const int take = room < kLimbBits ? room : kLimbBits;
    leading = leading << take |
              static_cast<uint64_t>(carried[next]) >> (kLimbBits - take);
    carried[next] &= (int64_t{1} << (kLimbBits - take)) - 1;
    bits_below -= take;
    room -= take;
    if (take == kLimbBits) --next;
  }
  bool sticky = false;
  for (int i = 0; i <= next; ++i) sticky |= carried[i] != 0;

  const int excess = 64 - std::countl_zero(leading) - 53;
  if (excess > 0) {
    const uint64_t half = uint64_t{1} << (excess - 1);
    const uint64_t rest = leading & ((half << 1) - 1);
    leading >>= excess;
    bits_below += excess;
    if (rest > half || (rest == half && (sticky || (leading & 1)))) ++leading;
  }
  return std::ldexp(static_cast<double>(leading), bits_below + kUnitExponent);
}

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
