#include "tools/grad_split.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>

#include "gtest/gtest.h"

namespace zeromini::tools {
namespace {

uint32_t BitsOf(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  return bits;
}

std::vector<float> AwkwardGradient() {
  using Limits = std::numeric_limits<float>;
  std::vector<float> values = {0.0f,
                               -0.0f,
                               1.0f,
                               -1.5f,
                               Limits::denorm_min(),
                               -Limits::denorm_min(),
                               Limits::min() - Limits::denorm_min(),
                               Limits::min(),
                               Limits::max(),
                               -Limits::max(),
                               0.1f};
  std::mt19937 rng(7);
  for (int i = 0; i < 2000; ++i) {
    const uint32_t bits = rng();
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    if (std::isfinite(value)) values.push_back(value);
  }
  return values;
}

TEST(GradSplitTest, SumsBackToTheSameBitsInEveryOrder) {
  const std::vector<float> gradient = AwkwardGradient();
  std::mt19937 rng(3);
  for (const int ranks : {1, 2, 3, 5, 8}) {
    std::vector<std::vector<float>> hands;
    for (int r = 0; r < ranks; ++r) {
      hands.push_back(HandOf(r, gradient, {4, 2, ranks}));
    }
    for (int order = 0; order < 6; ++order) {
      std::shuffle(hands.begin(), hands.end(), rng);
      std::vector<float> sum = hands[0];
      for (int r = 1; r < ranks; ++r) {
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += hands[r][i];
      }
      for (size_t i = 0; i < sum.size(); ++i) {
        ASSERT_EQ(BitsOf(sum[i]), BitsOf(gradient[i]))
            << gradient[i] << " on " << ranks << " ranks";
      }
    }
  }
}

TEST(GradSplitTest, GivesEveryRankAPartAndNoRankItAll) {
  const std::vector<float> gradient(100, 1.0f / 3);
  for (int r = 0; r < 3; ++r) {
    const std::vector<float> hand = HandOf(r, gradient, {0, 1, 3});
    EXPECT_GT(std::accumulate(hand.begin(), hand.end(), 0.0), 1.0);
    EXPECT_LT(std::accumulate(hand.begin(), hand.end(), 0.0), 30.0);
  }
}

TEST(GradSplitTest, DealsAnewForEachTensorStepAndElement) {
  const std::vector<float> gradient(50, 1.0f / 3);
  const std::vector<float> hand = HandOf(0, gradient, {1, 1, 2});
  EXPECT_EQ(HandOf(0, gradient, {1, 1, 2}), hand);
  EXPECT_NE(HandOf(0, gradient, {2, 1, 2}), hand);
  EXPECT_NE(HandOf(0, gradient, {1, 2, 2}), hand);
  EXPECT_NE(std::count(hand.begin(), hand.end(), hand[0]), 50);
}

TEST(GradSplitTest, LeavesWhatIsNotFiniteWhole) {
  const std::vector<float> gradient = {INFINITY, NAN};
  EXPECT_EQ(HandOf(0, gradient, {0, 1, 2})[0], INFINITY);
  EXPECT_TRUE(std::isnan(HandOf(0, gradient, {0, 1, 2})[1]));
  EXPECT_EQ(HandOf(1, gradient, {0, 1, 2}), (std::vector<float>{0, 0}));
}

}  // namespace
}  // namespace zeromini::tools
