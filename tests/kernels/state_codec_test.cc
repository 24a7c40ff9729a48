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

constexpr StateKind kMomenta = {StateFormat::kInt8, false};
constexpr StateKind kSquares = {StateFormat::kInt8, true};

State Packed(const KernelTable& kernels, StateKind kind,
             const std::vector<float>& values, int64_t row_elements) {
  State state(kind, values, row_elements);
  RunKernel(kernels.pack_state, state.args());
  return state;
}

// What the packed array gives back, over the values it was packed from.
std::vector<float> Restored(const KernelTable& kernels, State state) {
  std::fill(state.unpacked.begin(), state.unpacked.end(), -7.0f);
  RunKernel(kernels.unpack_state, state.args());
  return state.unpacked;
}

bool IsNormal(float value) { return std::isnormal(value); }

// Rows of 500, each of another magnitude.
std::vector<float> Momenta() {
  std::vector<float> values;
  for (int64_t i = 0; i < 200 * 500; ++i) {
    values.push_back(std::ldexp(
        RandomFloat(9, i), static_cast<int>(RandomBits(8, i / 500) % 80) - 40));
  }
  return values;
}

TEST(StateCodecTest, StateHasTheReferencesBitsAtEveryLevel) {
  std::vector<float> values = WildFloats(5000);
  const std::vector<float> finite = FiniteFloats(20000);
  const std::vector<float> momenta = Momenta();
  values.insert(values.end(), finite.begin(), finite.end());
  values.insert(values.end(), momenta.begin(), momenta.end());
  for (StateKind kind : kStateKinds) {
    for (int64_t columns : {1, 31, 32, 33, 1000}) {
      State expected = Packed(ReferenceKernels(), kind, values, columns);
      const auto restored = Bits(Restored(ReferenceKernels(), expected));
      for (const KernelTable* table : AttainableTables()) {
        const State actual = Packed(*table, kind, values, columns);
        EXPECT_EQ(actual.packed.bytes(), expected.packed.bytes()) << columns;
        EXPECT_EQ(actual.scales.bytes(), expected.scales.bytes()) << columns;
        EXPECT_EQ(Bits(actual.unpacked), Bits(expected.unpacked));
        EXPECT_EQ(Bits(Restored(*table, actual)), restored) << columns;
      }
    }
  }
}

TEST(StateCodecTest, RowsOfBFloat16StateUseTheNumbersOfTheirElements) {
  const std::vector<float> values = FiniteFloats(1000);
  const int64_t columns = 100;
  State state({StateFormat::kBFloat16, false}, values, columns);
  RunKernel(CpuKernels().pack_state, state.args(3, 50));
  State second({StateFormat::kBFloat16, false}, values, columns);
  StateCodecArgs args = second.args(3, 50);
  args.rows = 1;
  for (int64_t r = 0; r < state.rows; ++r) {
    RunKernel(CpuKernels().pack_state, args);
    args.packed = static_cast<uint16_t*>(args.packed) + columns;
    args.unpacked += columns;
    args.first_element += columns;
  }
  EXPECT_EQ(second.packed.bytes(), state.packed.bytes());
}

TEST(StateCodecTest,
     Int8MomentaAreRestoredWithinAHundredAndTwentyFifthOfTheScale) {
  State state = Packed(CpuKernels(), kMomenta, Momenta(), 500);
  const std::vector<float> restored = Restored(CpuKernels(), state);
  for (size_t i = 0; i < restored.size(); ++i) {
    const double scale = state.scale(static_cast<int64_t>(i));
    const double x = std::abs(state.unpacked[i]) / scale;
    // Smaller ones within half as much and less: finer by (1 + x)^2 / 4.
    ASSERT_NEAR(restored[i], state.unpacked[i],
                scale * (1 + x) * (1 + x) / 500);
    ASSERT_GE(restored[i] * state.unpacked[i], 0) << "the sign";
  }
}

TEST(StateCodecTest, Int8SquaresAreRestoredWithinA250thOfTheRootTimesTheScale) {
  State state = Packed(CpuKernels(), kSquares, Momenta(), 500);
  const std::vector<float> restored = Restored(CpuKernels(), state);
  for (size_t i = 0; i < restored.size(); ++i) {
    const double scale = state.scale(static_cast<int64_t>(i));
    const double root = std::sqrt(state.unpacked[i] / scale);
    ASSERT_NEAR(restored[i], state.unpacked[i], scale * (root + 4e-3) / 250);
    ASSERT_GE(restored[i], 0);
  }
}

// A momentum over a root of zero plus epsilon would be an immense step.
TEST(StateCodecTest, NoInt8SquareButZeroBecomesZero) {
  for (const KernelTable* kernels : {&CpuKernels(), &ReferenceKernels()}) {
    std::vector<float> squares(64, 1e-12f);
    squares[0] = 1;
    squares[1] = 0;
    squares[32] = 1e-20f;  // The largest of its group would hide nothing.
    State state = Packed(*kernels, kSquares, squares, 64);
    const std::vector<float> restored = Restored(*kernels, state);
    EXPECT_EQ(restored[1], 0);
    for (size_t i = 2; i < restored.size(); ++i) {
      EXPECT_GT(restored[i], 0) << kernels->name << " " << i;
    }
  }
}

TEST(StateCodecTest, TheLargestOfAGroupIsKeptToOnePercentWhileItIsNormal) {
  for (StateKind kind : {kMomenta, kSquares}) {
    // Each alone in its group.
    State state = Packed(CpuKernels(), kind, FiniteFloats(10000), 1);
    const std::vector<float> restored = Restored(CpuKernels(), state);
    for (size_t i = 0; i < restored.size(); ++i) {
      const double value = state.unpacked[i];
      if (!IsNormal(state.unpacked[i])) continue;
      ASSERT_NEAR(restored[i], value, std::abs(value) / 100);
    }
  }
}

TEST(StateCodecTest, AScaleIsTheSmallestBFloat16NotBelowTheLargestMagnitude) {
  State state = Packed(CpuKernels(), kMomenta, FiniteFloats(10000), 1);
  for (size_t i = 0; i < state.unpacked.size(); ++i) {
    const float magnitude = std::abs(state.unpacked[i]);
    const uint16_t scale = state.scales.as<uint16_t>()[i];
    if (magnitude > 0x1.fep127f) {
      ASSERT_EQ(scale, 0x7f7f);
      continue;
    }
    ASSERT_GE(FromBFloat16(scale), magnitude);
    if (scale > 0) {
      ASSERT_LT(FromBFloat16(scale - 1), magnitude);
    }
  }
}

TEST(StateCodecTest, AGroupOfZerosHasScaleZeroAndZerosAreRestoredAsZeros) {
  for (StateKind kind : {kMomenta, kSquares}) {
    std::vector<float> values(96, 0.0f);
    values[70] = 5;  // Zeros beside something else stay zeros as well.
    State state = Packed(CpuKernels(), kind, values, 96);
    const std::vector<float> restored = Restored(CpuKernels(), state);
    EXPECT_EQ(state.scale(0), 0);
    EXPECT_EQ(state.scale(32), 0);
    EXPECT_EQ(state.scale(64), 5);
    EXPECT_EQ(restored, values);
  }
}

TEST(StateCodecTest, GroupsEndWithTheirRow) {
  std::vector<float> values(3 * 33, 1.0f);
  for (int64_t i = 33; i < 66; ++i) values[i] = 1000;
  values[32] = 16;
  State state = Packed(CpuKernels(), kMomenta, values, 33);
  const std::vector<uint16_t> scales(state.scales.as<uint16_t>(),
                                     state.scales.as<uint16_t>() + 6);
  EXPECT_EQ(scales, (std::vector<uint16_t>{0x3f80, 0x4180, 0x447a, 0x447a,
                                           0x3f80, 0x3f80}));
  EXPECT_EQ(Restored(CpuKernels(), state), values);
}

TEST(StateCodecTest, TheLargestFloatsAreRestoredFinite) {
  const float largest = std::numeric_limits<float>::max();
  for (StateKind kind : {kMomenta, kSquares}) {
    const State state = Packed(CpuKernels(), kind,
                               std::vector<float>{largest, -largest, 1, 0}, 4);
    for (float value : Restored(CpuKernels(), state)) {
      EXPECT_TRUE(std::isfinite(value));
    }
  }
}

TEST(StateCodecTest, AValueThatIsNotFiniteMakesItsOwnGroupNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (float bad : {infinity, -infinity, std::nanf("")}) {
    std::vector<float> values(96, 1.0f);
    values[40] = bad;
    const State state = Packed(CpuKernels(), kMomenta, values, 96);
    const std::vector<float> restored = Restored(CpuKernels(), state);
    for (int64_t i = 0; i < 96; ++i) {
      EXPECT_EQ(std::isnan(restored[i]), i / 32 == 1) << i;
    }
  }
}

TEST(StateCodecTest, NoElementsAreNoAccess) {
  for (const KernelTable* table : {&CpuKernels(), &ReferenceKernels()}) {
    for (StateKind kind : kStateKinds) {
      const StateCodecArgs args = {nullptr,     nullptr,      nullptr, 0, 32,
                                   kind.format, kind.squares, 1,       0};
      RunKernel(table->pack_state, args);
      RunKernel(table->unpack_state, args);
    }
  }
}

}  // namespace
}  // namespace zeromini
