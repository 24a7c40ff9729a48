#include "comm/rank_order_reduce.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "zeromini/internal/half.h"

namespace zeromini {
namespace {

TEST(RankOrderReduceTest, ANotANumberWinsOverEveryMaximumAndMinimum) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (ReduceOp op : {ReduceOp::kMax, ReduceOp::kMin}) {
    const float a[] = {nan, 1, 2};
    const float b[] = {5, nan, 3};
    float out[3];
    ReduceInRankOrder({a, b}, out, 3, DType::kFloat32, op);
    EXPECT_TRUE(std::isnan(out[0]) && std::isnan(out[1]));
    EXPECT_EQ(out[2], op == ReduceOp::kMax ? 3 : 2);
  }
}

TEST(HalfTest, EveryFloat16SurvivesTheRoundTripAndTiesGoToEven) {
  for (uint32_t bits = 0; bits < 0x10000; ++bits) {
    const uint16_t half = static_cast<uint16_t>(bits);
    const float wide = FromFloat16(half);
    if (wide != wide) continue;
    ASSERT_EQ(ToFloat16(wide), half) << bits;
    ASSERT_EQ(ToBFloat16(FromBFloat16(half)) & 0x7f80, half & 0x7f80) << bits;
  }
  EXPECT_EQ(ToFloat16(1.0f + 1.0f / 2048), 0x3c00);
  EXPECT_EQ(ToFloat16(1.0f + 3.0f / 2048), 0x3c02);
  EXPECT_EQ(ToFloat16(65520.0f), 0x7c00);
  EXPECT_EQ(ToFloat16(65519.0f), 0x7bff);
  EXPECT_EQ(ToBFloat16(1.0f + 1.0f / 256), 0x3f80);
  EXPECT_EQ(ToBFloat16(1.0f + 3.0f / 256), 0x3f82);
}

// A few thousand values of every size, the odd ones among them.
std::vector<float> ManyFloats() {
  std::vector<float> values = {
      0.0f,    -0.0f,  1.0f + 1.0f / 256,
      3.4e38f, 1e-40f, std::numeric_limits<float>::infinity()};
  for (uint32_t bits = 1; values.size() < 2500; bits = bits * 2891336453u + 7) {
    const float value = std::bit_cast<float>(bits);
    if (value == value) values.push_back(value);
  }
  return values;
}

TEST(WireTest, RoundsEachElementAsOneAloneAndWidensItBack) {
  const std::vector<float> values = ManyFloats();
  const int64_t count = static_cast<int64_t>(values.size());
  std::vector<uint16_t> wire(count);
  std::vector<float> wide(count);
  std::vector<float> both = values;
  RoundToWire(values.data(), wire.data(), count, DType::kBFloat16);
  WidenFromWire(wire.data(), wide.data(), count, DType::kBFloat16);
  RoundThroughWire(both.data(), both.data(), count, DType::kBFloat16);
  for (int64_t i = 0; i < count; ++i) {
    ASSERT_EQ(wire[i], ToBFloat16(values[i])) << "element " << i;
    ASSERT_EQ(wide[i], FromBFloat16(wire[i])) << "element " << i;
    ASSERT_EQ(both[i], wide[i]) << "element " << i;
  }
  EXPECT_TRUE(std::isinf(wide[3])) << "past the largest of bf16";
  EXPECT_TRUE(std::signbit(wide[1])) << "a negative zero stays one";
}

TEST(WireTest, AddsFp32AndBFloat16SourcesFromTheLeftInFp32) {
  constexpr int64_t kCount = 2500;
  std::vector<float> a(kCount), c(kCount);
  std::vector<uint16_t> b(kCount);
  for (int64_t i = 0; i < kCount; ++i) {
    a[i] = std::ldexp(1.0f, static_cast<int>(i % 50) - 25);
    b[i] = ToBFloat16(-0.3f * static_cast<float>(i));
    c[i] = 0.001f * static_cast<float>(i * i);
  }
  std::vector<float> expected(kCount);
  for (int64_t i = 0; i < kCount; ++i) {
    expected[i] = a[i] + FromBFloat16(b[i]) + c[i];
  }
  const WireSource sources[] = {{a.data(), DType::kFloat32},
                                {b.data(), DType::kBFloat16},
                                {c.data(), DType::kFloat32}};
  ReduceWire(sources, c.data(), kCount);
  EXPECT_EQ(c, expected);
}

TEST(WireTest, ALoneNegativeZeroIsNotTurnedPositive) {
  const float zero = -0.0f;
  float out = 1;
  const WireSource source = {&zero, DType::kFloat32};
  ReduceWire({&source, 1}, &out, 1);
  EXPECT_TRUE(std::signbit(out));
}

}  // namespace
}  // namespace zeromini
