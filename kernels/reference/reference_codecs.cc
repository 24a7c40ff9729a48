#include "kernels/reference/reference_codecs.h"

#include <algorithm>
#include <cmath>

#include "kernels/codec_args.h"
#include "zeromini/internal/half.h"

namespace zeromini {
namespace {

constexpr int kSmallestExponent = -126;  // Of a normal fp32 or bf16.
constexpr float kLargestBFloat16 = 0x1.fep127f;

double UlpOfBFloat16(double value) {
  const int exponent = value == 0 ? kSmallestExponent : std::ilogb(value);
  return std::ldexp(1, std::max(exponent, kSmallestExponent) - 7);
}

// The bits of a value that is a bf16, or 2^128 or more.
uint16_t BitsOfBFloat16(double value) {
  return static_cast<uint16_t>(BitsFromFloat(static_cast<float>(value)) >> 16);
}

uint16_t NanOfBFloat16(float value) {
  return static_cast<uint16_t>(BitsFromFloat(value) >> 16 | 0x40);
}

// To nearest, ties away from zero.
uint16_t RoundToBFloat16(float value) {
  if (std::isnan(value)) return NanOfBFloat16(value);
  if (std::isinf(value)) return BitsOfBFloat16(value);
  const double ulp = UlpOfBFloat16(value);
  return BitsOfBFloat16(std::round(value / ulp) * ulp);
}

// The random number of an element: 16 bits.
uint32_t RandomNumber(uint64_t seed, uint64_t element) {
  const uint64_t span = element >> 32;
  uint64_t key = seed + (span + 1) * 0x9e3779b97f4a7c15;  // splitmix64.
  key = (key ^ (key >> 30)) * 0xbf58476d1ce4e5b9;
  key = (key ^ (key >> 27)) * 0x94d049bb133111eb;
  key = key ^ (key >> 31);
  // lowbias32, started and crossed with a half of the key.
  uint32_t x = static_cast<uint32_t>(element + key);
  x = (x ^ (x >> 16)) * 0x7feb352d;
  x = (x ^ (x >> 15) ^ static_cast<uint32_t>(key >> 32)) * 0x846ca68b;
  return x >> 16;
}

// Away from zero as often as random numbers are at least what is missing to the
// next bf16, in 2^-16 of its distance.
uint16_t RoundStochastically(float value, uint32_t random) {
  if (std::isnan(value)) return NanOfBFloat16(value);
  if (std::isinf(value)) return BitsOfBFloat16(value);
  const double ulp = UlpOfBFloat16(value);
  const double ulps = std::abs(value) / ulp;
  const double truncated = std::floor(ulps);
  const double missing = 65536 * (1 - (ulps - truncated));
  const double rounded = (truncated + (random >= missing ? 1 : 0)) * ulp;
  const double finite = rounded > kLargestBFloat16 ? truncated * ulp : rounded;
  return BitsOfBFloat16(std::copysign(finite, value));
}

// Remainders: a pattern's low half, signed.

int16_t Remainder16(float value) {
  const int32_t low = static_cast<int32_t>(BitsFromFloat(value) % 65536);
  return static_cast<int16_t>(low < 32768 ? low : low - 65536);
}

// The weight whose pattern lies nearest, even if that is another kind of value.
uint16_t WeightOfRemainder16(float value) {
  const uint32_t high = BitsFromFloat(value) / 65536;
  return static_cast<uint16_t>(Remainder16(value) < 0 ? high + 1 : high);
}

float Join16(uint16_t weight, int16_t remainder) {
  const int64_t pattern = int64_t{weight} * 65536 + remainder;
  return FloatFromBits(static_cast<uint32_t>(pattern));
}

// Remainders in 127ths of half an ulp of the weight.

double HalfUlp(float weight) {
  return std::isfinite(weight) ? UlpOfBFloat16(weight) / 2 : 0;
}

int8_t Remainder8(float value, uint16_t bits) {
  const float weight = FromBFloat16(bits);
  if (!std::isfinite(weight)) return 0;
  const double error = static_cast<double>(value) - weight;
  return static_cast<int8_t>(std::nearbyint(error / HalfUlp(weight) * 127));
}

float Join8(uint16_t bits, int8_t remainder) {
  const float weight = FromBFloat16(bits);
  const float error = static_cast<float>(remainder * HalfUlp(weight) / 127);
  return static_cast<float>(static_cast<double>(weight) + error);
}

void PackWeight(const WeightCodecArgs& args, int64_t i) {
  const float value = args.unpacked[i];
  uint16_t& weight = static_cast<uint16_t*>(args.weights)[i];
  const bool half = args.dtype == DType::kFloat16;
  switch (args.format) {
    case MasterFormat::kNone:
      weight =
          half ? ToFloat16(value)
               : RoundStochastically(
                     value, RandomNumber(args.seed, args.first_element + i));
      return;
    case MasterFormat::kFloat32:
      weight = half ? ToFloat16(value) : RoundToBFloat16(value);
      static_cast<float*>(args.master)[i] = value;
      return;
    case MasterFormat::kRemainder16:
      weight = WeightOfRemainder16(value);
      static_cast<int16_t*>(args.master)[i] = Remainder16(value);
      return;
    case MasterFormat::kRemainder8:
      weight = RoundToBFloat16(value);
      static_cast<int8_t*>(args.master)[i] = Remainder8(value, weight);
      return;
  }
}

float UnpackWeight(const WeightCodecArgs& args, int64_t i) {
  if (args.format == MasterFormat::kFloat32) {
    return static_cast<const float*>(args.master)[i];
  }
  const uint16_t weight = static_cast<const uint16_t*>(args.weights)[i];
  switch (args.format) {
    case MasterFormat::kRemainder16:
      return Join16(weight, static_cast<const int16_t*>(args.master)[i]);
    case MasterFormat::kRemainder8:
      return Join8(weight, static_cast<const int8_t*>(args.master)[i]);
    default:
      return args.dtype == DType::kFloat16 ? FromFloat16(weight)
                                           : FromBFloat16(weight);
  }
}

// --- State ---

// NaN if the group has a value that is not finite.
float ScaleOf(const float* group, int64_t n) {
  float largest = 0;
  for (int64_t i = 0; i < n; ++i) {
    if (!std::isfinite(group[i])) return std::nanf("");
    largest = std::max(largest, std::abs(group[i]));
  }
  const double ulp = UlpOfBFloat16(largest);
  const double up = std::ceil(largest / ulp) * ulp;
  return static_cast<float>(std::min<double>(up, kLargestBFloat16));
}

float Quotient(float a, float b) { return static_cast<float>(double{a} / b); }

float Product(float a, float b) { return static_cast<float>(double{a} * b); }

// Each step is rounded to float.
double Quantized(float x, bool square) {
  if (square) {
    const float root = static_cast<float>(std::sqrt(double{x}));
    const double q = std::nearbyint(Product(255, root));
    return x > 0 ? std::max(q, 1.0) : q;
  }
  const float sum = static_cast<float>(1 + std::abs(double{x}));
  return std::nearbyint(Quotient(Product(254, x), sum));
}

// With z = q/127, q / (254 - |q|) is z / (2 - |z|).
float Restored(int q, bool square) {
  if (square) return Quotient(static_cast<float>(q * q), 255 * 255);
  return Quotient(static_cast<float>(q), static_cast<float>(254 - std::abs(q)));
}

void PackGroup(const StateCodecArgs& args, int64_t at, int64_t n,
               uint16_t& stored_scale) {
  const float scale = ScaleOf(args.unpacked + at, n);
  stored_scale = std::isnan(scale) ? uint16_t{0x7fc0} : BitsOfBFloat16(scale);
  for (int64_t i = at; i < at + n; ++i) {
    const double q =
        scale > 0 ? Quantized(Quotient(args.unpacked[i], scale), args.squares)
                  : 0;
    if (args.squares) {
      static_cast<uint8_t*>(args.packed)[i] = static_cast<uint8_t>(q);
    } else {
      static_cast<int8_t*>(args.packed)[i] = static_cast<int8_t>(q);
    }
  }
}

void UnpackGroup(const StateCodecArgs& args, int64_t at, int64_t n,
                 uint16_t scale) {
  for (int64_t i = at; i < at + n; ++i) {
    const int q = args.squares ? static_cast<const uint8_t*>(args.packed)[i]
                               : static_cast<const int8_t*>(args.packed)[i];
    args.unpacked[i] = Product(Restored(q, args.squares), FromBFloat16(scale));
  }
}

// Calls visit(first element, elements, scale) for each group of each row.
template <typename Visit>
void ForEachGroup(const StateCodecArgs& args, Visit visit) {
  uint16_t* scale = args.scales;
  for (int64_t r = 0; r < args.rows; ++r) {
    for (int64_t c = 0; c < args.row_elements; c += kStateGroup) {
      visit(r * args.row_elements + c,
            std::min(kStateGroup, args.row_elements - c), *scale++);
    }
  }
}

// fp32 and bf16 state is stored as weights without a master.
WeightCodecArgs AsWeights(const StateCodecArgs& args) {
  WeightCodecArgs weights = {};
  weights.weights = args.packed;
  weights.unpacked = args.unpacked;
  weights.elements = args.rows * args.row_elements;
  weights.dtype = args.format == StateFormat::kBFloat16 ? DType::kBFloat16
                                                        : DType::kFloat32;
  weights.format = MasterFormat::kNone;
  weights.seed = args.seed;
  weights.first_element = args.first_element;
  return weights;
}

}  // namespace

void ReferenceUnpackWeights(const WeightCodecArgs& args) {
  CheckCodec(args);
  for (int64_t i = 0; i < args.elements; ++i) {
    args.unpacked[i] = args.dtype == DType::kFloat32
                           ? static_cast<const float*>(args.weights)[i]
                           : UnpackWeight(args, i);
  }
}

void ReferencePackWeights(const WeightCodecArgs& args) {
  CheckCodec(args);
  for (int64_t i = 0; i < args.elements; ++i) {
    if (args.dtype == DType::kFloat32) {
      static_cast<float*>(args.weights)[i] = args.unpacked[i];
    } else {
      PackWeight(args, i);
    }
  }
}

void ReferenceUnpackState(const StateCodecArgs& args) {
  if (args.format != StateFormat::kInt8) {
    return ReferenceUnpackWeights(AsWeights(args));
  }
  ForEachGroup(args, [&](int64_t at, int64_t n, uint16_t scale) {
    UnpackGroup(args, at, n, scale);
  });
}

void ReferencePackState(const StateCodecArgs& args) {
  if (args.format != StateFormat::kInt8) {
    return ReferencePackWeights(AsWeights(args));
  }
  ForEachGroup(args, [&](int64_t at, int64_t n, uint16_t& scale) {
    PackGroup(args, at, n, scale);
  });
}

}  // namespace zeromini
