// 16-bit floats as bits, rounded to nearest even.

#ifndef ZEROMINI_INTERNAL_HALF_H_
#define ZEROMINI_INTERNAL_HALF_H_

#include <cstdint>
#include <cstring>

namespace zeromini {

inline float FloatFromBits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

inline uint32_t BitsFromFloat(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

inline float FromBFloat16(uint16_t bits) {
  return FloatFromBits(uint32_t{bits} << 16);
}

inline uint16_t ToBFloat16(float value) {
  const uint32_t bits = BitsFromFloat(value);
  if (value != value) return static_cast<uint16_t>(bits >> 16 | 0x40);
  return static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

inline float FromFloat16(uint16_t bits) {
  const uint32_t sign = (bits & 0x8000u) << 16;
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude >= 0x7c00) {  // Infinity and NaN.
    return FloatFromBits(sign | 0x7f800000u | (magnitude & 0x3ffu) << 13);
  }
  // 2^112 moves the exponent from bias 15 to 127, subnormals included.
  const float scaled =
      FloatFromBits(magnitude << 13) * FloatFromBits(0x77800000u);
  return FloatFromBits(sign | BitsFromFloat(scaled));
}

inline uint16_t ToFloat16(float value) {
  const uint32_t bits = BitsFromFloat(value);
  const uint32_t sign = bits >> 16 & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  uint32_t half = 0;
  if (magnitude > 0x7f800000u) {  // NaN.
    half = 0x7e00;
  } else if (magnitude >= 0x477ff000u) {  // Rounds to 65536 or more.
    half = 0x7c00;
  } else if (magnitude < 0x38800000u) {  // Subnormal: let the adder round.
    const float shifted = FloatFromBits(magnitude) + 0.5f;
    half = BitsFromFloat(shifted) - BitsFromFloat(0.5f);
  } else {
    half = (magnitude - 0x38000000u + 0xfff + (magnitude >> 13 & 1)) >> 13;
  }
  return static_cast<uint16_t>(sign | half);
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_HALF_H_
