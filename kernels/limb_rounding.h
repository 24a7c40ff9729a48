// The rounding of an exact sum's limbs. Plain integers, constexpr: the same on
// every device.

#ifndef ZEROMINI_KERNELS_LIMB_ROUNDING_H_
#define ZEROMINI_KERNELS_LIMB_ROUNDING_H_

#include <bit>
#include <cstdint>

#include "zeromini/internal/scalar_words.h"

namespace zeromini {

inline constexpr int kLimbBits = 32;
inline constexpr int64_t kLimbMask = (int64_t{1} << kLimbBits) - 1;
inline constexpr int kUnitExponent = -298;  // Of limb 0's unit.

// The last limb keeps what does not fit: it has no neighbour to carry into.
constexpr void CarryLimbs(int64_t* limbs) {
  for (int i = 0; i + 1 < kLimbWords; ++i) {
    limbs[i + 1] += limbs[i] >> kLimbBits;
    limbs[i] &= kLimbMask;
  }
}

// `leading` times 2^exponent, rounded to nearest, ties to even, where `sticky`
// stands for something below. Its top bit is set.
constexpr double RoundLeading(uint64_t leading, int exponent, bool sticky) {
  constexpr int kExcess = 64 - 53;
  constexpr uint64_t kHalf = uint64_t{1} << (kExcess - 1);
  const uint64_t rest = leading & ((kHalf << 1) - 1);
  leading >>= kExcess;
  if (rest > kHalf || (rest == kHalf && (sticky || (leading & 1)))) ++leading;
  // Exact: the exponents of limbs are far from a double's.
  const uint64_t power = static_cast<uint64_t>(exponent + kExcess + 1023) << 52;
  return static_cast<double>(leading) * std::bit_cast<double>(power);
}

// The value of kLimbWords limbs, each in [0, 2^62], rounded once: to nearest,
// ties to even.
constexpr double RoundLimbs(const int64_t* limbs) {
  int64_t carried[kLimbWords] = {};
  for (int i = 0; i < kLimbWords; ++i) carried[i] = limbs[i];
  CarryLimbs(carried);
  int top = kLimbWords - 1;
  while (top >= 0 && carried[top] == 0) --top;
  if (top < 0) return 0;

  // The leading 64 bits, and whether anything lies below them.
  uint64_t leading = static_cast<uint64_t>(carried[top]);
  int exponent = top * kLimbBits + kUnitExponent;
  int next = top - 1;
  int room = std::countl_zero(leading);
  while (room > 0) {
    const int take = room < kLimbBits ? room : kLimbBits;
    leading <<= take;
    exponent -= take;
    room -= take;
    if (next < 0) continue;
    leading |= static_cast<uint64_t>(carried[next]) >> (kLimbBits - take);
    carried[next] &= (int64_t{1} << (kLimbBits - take)) - 1;
    if (take == kLimbBits) --next;
  }
  bool sticky = false;
  for (int i = 0; i <= next; ++i) sticky |= carried[i] != 0;
  return RoundLeading(leading, exponent, sticky);
}

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_LIMB_ROUNDING_H_
