#include "kernels/exact_sum.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace zeromini {
namespace {

constexpr float kSmallest = 1.401298464324817e-45f;  // 2^-149
constexpr float kLargest = std::numeric_limits<float>::max();

double SumOf(const std::vector<double>& values) {
  ExactSum sum;
  for (double value : values) sum.Add(value);
  return sum.Rounded();
}

// Squares of floats of every magnitude.
std::vector<double> WildSquares(int count) {
  std::mt19937_64 rng(11);
  std::vector<double> values;
  for (int i = 0; i < count; ++i) {
    const double mantissa = 1 + static_cast<double>(rng() >> 41) / (1 << 23);
    const int exponent = static_cast<int>(rng() % 254) - 126;
    const double x = std::ldexp(mantissa, exponent);
    values.push_back(x * x);
  }
  return values;
}

TEST(ExactSumTest, IsZeroWhenEmpty) { EXPECT_EQ(ExactSum().Rounded(), 0); }

TEST(ExactSumTest, AgreesWithSixtyFourBitIntegers) {
  std::mt19937_64 rng(3);
  for (int trial = 0; trial < 1000; ++trial) {
    uint64_t total = 0;
    ExactSum sum;
    for (int i = 0; i < 7; ++i) {
      const uint64_t value = rng() >> (12 + rng() % 40);
      total += value;
      sum.Add(static_cast<double>(value));
    }
    EXPECT_EQ(sum.Rounded(), static_cast<double>(total)) << trial;
  }
}

TEST(ExactSumTest, AgreesWithOneHundredTwentyEightBitIntegers) {
  std::mt19937_64 rng(5);
  for (int trial = 0; trial < 1000; ++trial) {
    unsigned __int128 total = 0;
    ExactSum sum;
    for (int i = 0; i < 300; ++i) {
      const int shift = static_cast<int>(rng() % 60);
      const uint64_t value = rng() >> 11;
      total += static_cast<unsigned __int128>(value) << shift;
      sum.Add(std::ldexp(static_cast<double>(value), shift));
    }
    EXPECT_EQ(sum.Rounded(), static_cast<double>(total)) << trial;
  }
}

TEST(ExactSumTest, RoundsHalvesToEvenAndSeesWhatLiesFarBelow) {
  const double one = 1;
  const double half_ulp = std::ldexp(1, -53);
  const double speck = std::ldexp(1, -298);
  EXPECT_EQ(SumOf({one, half_ulp}), one);
  EXPECT_EQ(SumOf({one, half_ulp, speck}), one + 2 * half_ulp);
  EXPECT_EQ(SumOf({one + 2 * half_ulp, half_ulp}), one + 4 * half_ulp);
  EXPECT_EQ(SumOf({one + 2 * half_ulp, half_ulp / 2, half_ulp / 4}),
            one + 2 * half_ulp);
}

TEST(ExactSumTest, HoldsTheSmallestAndTheLargestSquares) {
  ExactSum small;
  small.AddSquare(kSmallest);
  small.AddSquare(kSmallest);
  small.AddSquare(kSmallest);
  EXPECT_EQ(small.Rounded(), std::ldexp(3, -298));

  ExactSum large;
  for (int i = 0; i < 1000; ++i) large.AddSquare(kLargest);
  const double square = static_cast<double>(kLargest) * kLargest;
  EXPECT_EQ(large.Rounded(), 1000 * square);
  large.Add(std::ldexp(1, 296));  // 2^40 rows of the largest squares.
  EXPECT_EQ(large.Rounded(), std::ldexp(1, 296) + 1000 * square);
}

TEST(ExactSumTest, DoesNotDependOnTheOrder) {
  std::vector<double> values = WildSquares(2000);
  const double expected = SumOf(values);
  std::mt19937 rng(7);
  for (int i = 0; i < 20; ++i) {
    std::shuffle(values.begin(), values.end(), rng);
    EXPECT_EQ(SumOf(values), expected);
  }
}

TEST(ExactSumTest, SumsOfPartsAddUpToTheWhole) {
  const std::vector<double> values = WildSquares(3000);
  const double expected = SumOf(values);
  for (int parts : {2, 3, 64}) {
    std::vector<ExactSum> ranks(parts);
    for (size_t i = 0; i < values.size(); ++i) ranks[i % parts].Add(values[i]);
    // As an integer all-reduce adds them: without carrying.
    int64_t reduced[ExactSum::kLimbs] = {};
    ExactSum merged;
    for (const ExactSum& rank : ranks) {
      for (int k = 0; k < ExactSum::kLimbs; ++k) reduced[k] += rank.limbs()[k];
      merged.AddLimbs(rank.limbs().data());
    }
    EXPECT_EQ(ExactSum::Round(reduced), expected) << parts;
    EXPECT_EQ(merged.Rounded(), expected) << parts;
  }
}

TEST(ExactSumTest, LimbsStayBelowTwoToTheFortyHoweverManyAreAdded) {
  ExactSum sum;
  const double all_ones = std::ldexp(1, 53) - 1;
  for (int i = 1; i <= 5000; ++i) {
    sum.Add(all_ones);
    for (int64_t limb : sum.limbs()) ASSERT_LE(limb, int64_t{1} << 40) << i;
  }
  const __int128 total = static_cast<__int128>((int64_t{1} << 53) - 1) * 5000;
  EXPECT_EQ(sum.Rounded(), static_cast<double>(total));
}

TEST(ExactSumDeathTest, RefusesWhatIsNotASumOfSquares) {
  ExactSum sum;
  EXPECT_DEATH(sum.Add(-1), "broken invariant");
  EXPECT_DEATH(sum.Add(std::ldexp(1, -299)), "broken invariant");
  EXPECT_DEATH(sum.Add(std::ldexp(3, -299)), "broken invariant");
  EXPECT_DEATH(sum.Add(std::numeric_limits<double>::infinity()),
               "broken invariant");
}

TEST(BlockSumTest, OfOneRowIsThatRow) {
  const double row = 0.1;
  EXPECT_EQ(BlockSum(&row, 1), row);
}

TEST(BlockSumTest, RoundsOnce) {
  const double rows[] = {1, std::ldexp(1, -53), std::ldexp(1, -53)};
  EXPECT_EQ(BlockSum(rows, 3), 1 + std::ldexp(1, -52));
}

TEST(BlockSumTest, IsNotFiniteWhenARowIsNot) {
  const double infinity = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double with_infinity[] = {1, infinity, 2};
  const double with_both[] = {nan, 1, infinity};
  EXPECT_EQ(BlockSum(with_infinity, 3), infinity);
  EXPECT_TRUE(std::isnan(BlockSum(with_both, 3)));
}

}  // namespace
}  // namespace zeromini
