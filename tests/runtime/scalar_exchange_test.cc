#include "runtime/step/scalar_exchange.h"

#include "gtest/gtest.h"

namespace zeromini {
namespace {

TEST(ScalarExchangeTest, TheSumOverRanksIsTheSumInOneRank) {
  ScalarExchange one(3, 2), a(3, 2), b(3, 2);
  ExactSum x, y, both;
  for (double v : {1e-30, 3.0, 7e20}) x.Add(double(float(v)) * float(v));
  y.Add(0.25);
  for (double v : {1e-30, 3.0, 7e20}) both.Add(double(float(v)) * float(v));
  both.Add(0.25);
  one.AddNorm(both);
  one.AddSplit(1, both);
  a.AddNorm(x);
  b.AddNorm(y);
  a.AddSplit(1, x);
  b.AddSplit(1, y);
  for (int64_t i = 0; i < a.size(); ++i) a.data()[i] += b.data()[i];
  EXPECT_EQ(a.SumOfSquares(), one.SumOfSquares());
  EXPECT_EQ(a.SplitSum(1), one.SplitSum(1));
  EXPECT_EQ(a.SplitSum(0), 0);
}

TEST(ScalarExchangeTest, PresenceAndFinitenessAreCountedApart) {
  ScalarExchange a(2, 0), b(2, 0);
  a.SetPresent(0);
  b.SetPresent(0);
  b.SetNotFinite(0);
  b.SetNotFinite(1);
  for (int64_t i = 0; i < a.size(); ++i) a.data()[i] += b.data()[i];
  EXPECT_EQ(a.RanksPresent(0), 2);
  EXPECT_EQ(a.RanksNotFinite(0), 1);
  EXPECT_EQ(a.RanksPresent(1), 0);
  EXPECT_EQ(a.RanksNotFinite(1), 1);
}

TEST(ScalarExchangeTest, AWordThatDiffersOnOneRankIsNoAgreement) {
  const uint64_t word = 0xfedcba9876543210u;
  ScalarExchange sum(1, 0);
  sum.SetAgreement(word * 3);
  EXPECT_TRUE(sum.Agreed(word, 3));
  sum.SetAgreement(word * 2 + 1);
  EXPECT_FALSE(sum.Agreed(word, 3));
}

}  // namespace
}  // namespace zeromini
