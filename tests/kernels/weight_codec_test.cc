#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/codec_inputs.h"
#include "tests/kernels/levels.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/internal/half.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

constexpr WeightKind kStochastic = {DType::kBFloat16, MasterFormat::kNone};
constexpr WeightKind kRemainder16 = {DType::kBFloat16,
                                     MasterFormat::kRemainder16};
constexpr WeightKind kRemainder8 = {DType::kBFloat16,
                                    MasterFormat::kRemainder8};

Weights Packed(const KernelTable& kernels, WeightKind kind,
               const std::vector<float>& values, uint64_t seed = 1,
               int64_t first_element = 0) {
  Weights weights(kind, values);
  RunKernel(kernels.pack_weights, weights.args(seed, first_element));
  return weights;
}

// What the packed array gives back, over the values it was packed from.
std::vector<float> Restored(const KernelTable& kernels, Weights weights) {
  std::fill(weights.unpacked.begin(), weights.unpacked.end(), -7.0f);
  RunKernel(kernels.unpack_weights, weights.args());
  return weights.unpacked;
}

bool IsNormal(float value) { return std::isnormal(value); }

TEST(WeightCodecTest, WeightsHaveTheReferencesBitsAtEveryLevel) {
  const std::vector<float> values = WildFloats(50000);
  for (WeightKind kind : kWeightKinds) {
    Weights expected = Packed(ReferenceKernels(), kind, values);
    const auto restored = Bits(Restored(ReferenceKernels(), expected));
    for (const KernelTable* table : AttainableTables()) {
      const Weights actual = Packed(*table, kind, values);
      EXPECT_EQ(actual.weights.bytes(), expected.weights.bytes());
      EXPECT_EQ(actual.master.bytes(), expected.master.bytes());
      EXPECT_EQ(Bits(actual.unpacked), Bits(values));
      EXPECT_EQ(Bits(Restored(*table, actual)), restored);
    }
  }
}

TEST(WeightCodecTest, AnyWeightWithAnyRemainderHasTheReferencesBits) {
  for (WeightKind kind : kWeightKinds) {
    if (kind.dtype == DType::kFloat32) continue;
    Weights weights(kind, std::vector<float>(4 << 16));
    const int64_t bytes = MasterBytes(kind.format);
    for (int64_t i = 0; i < weights.elements(); ++i) {
      weights.weights.as<uint16_t>()[i] = static_cast<uint16_t>(i);
      for (int64_t b = i * bytes; b < (i + 1) * bytes; ++b) {
        weights.master.as<uint8_t>()[b] =
            static_cast<uint8_t>(RandomBits(3, b));
      }
    }
    const auto expected = Bits(Restored(ReferenceKernels(), weights));
    for (const KernelTable* table : AttainableTables()) {
      EXPECT_EQ(Bits(Restored(*table, weights)), expected);
    }
  }
}

TEST(WeightCodecTest, BFloat16WeightsAreRoundedToNearestTiesAwayFromZero) {
  const std::vector<float> values = {
      1 + 0x1p-8f,           1 + 0x1p-8f - 0x1p-23f, 1 + 3 * 0x1p-8f,
      -1 - 0x1p-8f,          -1 - 3 * 0x1p-8f,       2 - 0x1p-23f,
      FloatFromBits(0x8000), FloatFromBits(0x7fff),  -0.0f};
  const uint16_t expected[] = {0x3f81, 0x3f80, 0x3f82, 0xbf81, 0xbf82,
                               0x4000, 1,      0,      0x8000};
  for (MasterFormat format : {MasterFormat::kFloat32, MasterFormat::kRemainder8,
                              MasterFormat::kRemainder16}) {
    Weights weights = Packed(CpuKernels(), {DType::kBFloat16, format}, values);
    for (size_t i = 0; i < values.size(); ++i) {
      EXPECT_EQ(weights.weights.as<uint16_t>()[i], expected[i]) << values[i];
    }
  }
}

TEST(WeightCodecTest, Float16WeightsAreRoundedToNearestTiesToEven) {
  std::vector<float> values;
  std::vector<uint16_t> expected;
  for (uint16_t half = 0; half < 0x7c00; ++half) {
    const float low = FromFloat16(half);
    const float high = half == 0x7bff ? 65536 : FromFloat16(half + 1);
    const float middle = low + (high - low) / 2;
    for (float sign : {1.0f, -1.0f}) {
      const uint16_t bit = sign < 0 ? 0x8000 : 0;
      values.insert(values.end(),
                    {sign * low, sign * std::nextafter(middle, 0.0f),
                     sign * middle, sign * std::nextafter(middle, high)});
      const uint16_t up = half + 1;
      const uint16_t even = half % 2 == 0 ? half : up;
      for (uint16_t bits : {half, half, even, up}) {
        expected.push_back(bits | bit);
      }
    }
  }
  for (MasterFormat format : {MasterFormat::kNone, MasterFormat::kFloat32}) {
    Weights weights = Packed(CpuKernels(), {DType::kFloat16, format}, values);
    for (size_t i = 0; i < values.size(); ++i) {
      ASSERT_EQ(weights.weights.as<uint16_t>()[i], expected[i]) << values[i];
    }
  }
}

TEST(WeightCodecTest, AFloat32MasterIsRestoredWithoutTheWeights) {
  for (DType dtype : {DType::kBFloat16, DType::kFloat16}) {
    const std::vector<float> values = WildFloats(1000);
    Weights weights =
        Packed(CpuKernels(), {dtype, MasterFormat::kFloat32}, values);
    std::fill_n(weights.weights.as<uint16_t>(), values.size(), 0x1234);
    EXPECT_EQ(Bits(Restored(CpuKernels(), weights)), Bits(values));
  }
}

TEST(WeightCodecTest, AFloat32MasterMayBeUpdatedInPlace) {
  const std::vector<float> values = WildFloats(1000);
  Weights weights({DType::kBFloat16, MasterFormat::kFloat32}, values);
  WeightCodecArgs args = weights.args();
  args.master = args.unpacked;
  RunKernel(CpuKernels().pack_weights, args);
  RunKernel(CpuKernels().unpack_weights, args);
  EXPECT_EQ(Bits(weights.unpacked), Bits(values));
}

TEST(WeightCodecTest, SixteenBitRemaindersRestoreEveryPattern) {
  const std::vector<float> values = WildFloats(1000000);
  const Weights weights = Packed(CpuKernels(), kRemainder16, values);
  EXPECT_EQ(Bits(Restored(CpuKernels(), weights)), Bits(values));
}

TEST(WeightCodecTest, EightBitRemaindersRestoreNormalNumbersTo15Point9Bits) {
  const std::vector<float> values = WildFloats(1000000);
  const Weights weights = Packed(CpuKernels(), kRemainder8, values);
  const std::vector<float> restored = Restored(CpuKernels(), weights);
  const double bound = std::exp2(-15.9);
  for (size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    if (!IsNormal(values[i]) || std::abs(value) > 0x1.fefp127) continue;
    ASSERT_LE(std::abs(restored[i] - value), bound * std::abs(value)) << value;
  }
}

TEST(WeightCodecTest,
     EightBitRemaindersKeepSubnormalNumbersToHalfA127thOfHalfAnUlp) {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 1 << 23; bits += 5) {
    values.push_back(FloatFromBits(bits));
    values.push_back(FloatFromBits(bits | 0x80000000));
  }
  const Weights weights = Packed(CpuKernels(), kRemainder8, values);
  const std::vector<float> restored = Restored(CpuKernels(), weights);
  const double bound = 0x1p-134 / 254 + 0x1p-149;
  for (size_t i = 0; i < values.size(); ++i) {
    const double value = values[i];
    ASSERT_LE(std::abs(restored[i] - value), bound) << value;
  }
}

TEST(WeightCodecTest, EightBitRemaindersKeepFiniteInfiniteAndNanApart) {
  const std::vector<float> values = WildFloats(100000);
  Weights weights = Packed(CpuKernels(), kRemainder8, values);
  const std::vector<float> restored = Restored(CpuKernels(), weights);
  for (size_t i = 0; i < values.size(); ++i) {
    const float weight = FromBFloat16(weights.weights.as<uint16_t>()[i]);
    ASSERT_EQ(std::fpclassify(restored[i]) == FP_NAN, std::isnan(values[i]));
    ASSERT_EQ(std::isinf(restored[i]), std::isinf(weight)) << values[i];
    const bool rounds_to_infinity = std::abs(values[i]) >= 0x1.ffp127f;
    ASSERT_EQ(std::isinf(weight), rounds_to_infinity) << values[i];
  }
}

TEST(WeightCodecTest, StochasticRoundingLeavesWhatBFloat16HoldsAlone) {
  std::vector<float> values;
  for (uint32_t bits = 0; bits < 1 << 16; ++bits) {
    const float value = FromBFloat16(static_cast<uint16_t>(bits));
    if (!std::isnan(value)) values.push_back(value);
  }
  for (uint64_t seed = 0; seed < 20; ++seed) {
    const Weights weights = Packed(CpuKernels(), kStochastic, values, seed);
    ASSERT_EQ(Bits(Restored(CpuKernels(), weights)), Bits(values));
  }
}

TEST(WeightCodecTest, StochasticRoundingGivesANeighbourAndKeepsFiniteFinite) {
  std::vector<float> values = FiniteFloats(100000);
  for (uint32_t bits = 0x7f7f0000; bits < 0x7f800000; ++bits) {
    values.push_back(FloatFromBits(bits));
  }
  const Weights weights = Packed(CpuKernels(), kStochastic, values);
  const std::vector<float> restored = Restored(CpuKernels(), weights);
  for (size_t i = 0; i < values.size(); ++i) {
    const uint32_t value = BitsFromFloat(values[i]);
    const uint32_t rounded = BitsFromFloat(restored[i]);
    ASSERT_TRUE(std::isfinite(restored[i])) << values[i];
    ASSERT_LE(rounded, value + 0xffff) << values[i];
    ASSERT_GT(rounded + 0x10000, value) << values[i];
  }
}

TEST(WeightCodecTest, ANanStaysOneHoweverItIsRounded) {
  const std::vector<float> values = {
      FloatFromBits(0x7f800001), FloatFromBits(0x7fffffff),
      FloatFromBits(0xff80ffff), FloatFromBits(0xffffffff)};
  for (WeightKind kind : kWeightKinds) {
    const Weights weights = Packed(CpuKernels(), kind, values);
    for (float value : Restored(CpuKernels(), weights)) {
      EXPECT_TRUE(std::isnan(value)) << static_cast<int>(kind.format);
    }
  }
}

// Which of n equal values, `fraction` of the way from 1 to the next bf16, are
// rounded up.
std::vector<bool> RoundedUp(double fraction, int64_t n, uint64_t seed,
                            int64_t first_element = 0) {
  const float value = static_cast<float>(1 + fraction / 128);
  const Weights weights =
      Packed(CpuKernels(), kStochastic, std::vector<float>(n, value), seed,
             first_element);
  std::vector<bool> up;
  for (float restored : Restored(CpuKernels(), weights)) {
    up.push_back(restored > 1);
  }
  return up;
}

TEST(WeightCodecTest, StochasticRoundingIsRightOnAverage) {
  const int64_t n = 1 << 18;
  for (double fraction : {1.0 / 256, 0.125, 0.3125, 0.5, 0.75, 0.99609375}) {
    for (uint64_t seed : {0, 1, 12345}) {
      const std::vector<bool> up = RoundedUp(fraction, n, seed);
      const double deviation = std::sqrt(n * fraction * (1 - fraction));
      EXPECT_NEAR(std::count(up.begin(), up.end(), true), n * fraction,
                  4 * deviation)
          << fraction << " " << seed;
    }
  }
}

// Two sequences of fair coins agree in half the cases.
void ExpectIndependent(const std::vector<bool>& a, const std::vector<bool>& b,
                       size_t lag) {
  int64_t equal = 0;
  for (size_t i = 0; i + lag < a.size(); ++i) equal += a[i] == b[i + lag];
  const double n = static_cast<double>(a.size() - lag);
  EXPECT_NEAR(equal, n / 2, 4 * std::sqrt(n / 4)) << "lag " << lag;
}

TEST(WeightCodecTest, RandomNumbersOfElementsSeedsAndFarIndicesAreIndependent) {
  const int64_t n = 1 << 18;
  const std::vector<bool> up = RoundedUp(0.5, n, 1);
  for (size_t lag : {1, 2, 3, 4, 8, 16, 32, 64, 128, 1024, 4096, 65536}) {
    ExpectIndependent(up, up, lag);
  }
  ExpectIndependent(up, RoundedUp(0.5, n, 2), 0);
  ExpectIndependent(up, RoundedUp(0.5, n, 0), 0);
  ExpectIndependent(up, RoundedUp(0.5, n, (uint64_t{1} << 32) + 1), 0);
  ExpectIndependent(up, RoundedUp(0.5, n, 1, int64_t{1} << 32), 0);
  ExpectIndependent(up, RoundedUp(0.5, n, 1, int64_t{1} << 40), 0);
}

TEST(WeightCodecTest, StochasticRoundingDoesNotDependOnHowAnArrayIsCut) {
  const std::vector<float> values = FiniteFloats(20000);
  const int64_t n = static_cast<int64_t>(values.size());
  for (int64_t first : {int64_t{0}, int64_t{77}, (int64_t{1} << 32) - 5000}) {
    Weights whole = Packed(CpuKernels(), kStochastic, values, 9, first);
    Weights pieces(kStochastic, values);
    for (int64_t i = 0, size = 1; i < n; i += size, size = size * 2 + 1) {
      WeightCodecArgs args = pieces.args(9, first + i);
      args.weights = pieces.weights.as<uint16_t>() + i;
      args.unpacked += i;
      args.elements = std::min(size, n - i);
      RunKernel(CpuKernels().pack_weights, args);
    }
    EXPECT_EQ(pieces.weights.bytes(), whole.weights.bytes()) << first;
  }
}

TEST(WeightCodecTest, NoElementsAreNoAccess) {
  for (const KernelTable* table : {&CpuKernels(), &ReferenceKernels()}) {
    for (WeightKind kind : kWeightKinds) {
      const WeightCodecArgs args = {nullptr,    nullptr,     nullptr, 0,
                                    kind.dtype, kind.format, 1,       0};
      RunKernel(table->pack_weights, args);
      RunKernel(table->unpack_weights, args);
    }
  }
}

TEST(WeightCodecDeathTest, RefusesWhatDoesNotGoTogether) {
  const WeightKind kinds[] = {{DType::kFloat16, MasterFormat::kRemainder16},
                              {DType::kFloat16, MasterFormat::kRemainder8},
                              {DType::kFloat32, MasterFormat::kFloat32},
                              {DType::kInt64, MasterFormat::kNone}};
  for (WeightKind kind : kinds) {
    Weights weights(kind, {1});
    EXPECT_DEATH(RunKernel(CpuKernels().pack_weights, weights.args()),
                 "broken invariant");
    EXPECT_DEATH(RunKernel(ReferenceKernels().unpack_weights, weights.args()),
                 "broken invariant");
  }
}

}  // namespace
}  // namespace zeromini
