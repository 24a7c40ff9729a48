#include <cmath>
#include <string>

#include "gtest/gtest.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

// One block of two equal elements, worked out by hand.
struct Pair {
  float p[2] = {1, -2};
  float g[2] = {3, 4};
  float m[2] = {0, 0};
  float v[2] = {0, 0};
  double sum = 25;

  AdamMiniArgs adam_mini(const StepScalars& scalars) {
    return {p, g, m, v, &sum, 1, 1, 2, 2, &scalars};
  }
};

StepScalars FirstStep() {
  StepScalars scalars;
  scalars.learning_rate = 0.5;
  scalars.epsilon = 0;
  return scalars;
}

TEST(ReferenceKernelsTest, FirstAdamMiniStepDividesByTheBlocksRootMeanSquare) {
  Pair pair;
  RunKernel(ReferenceKernels().adam_mini_step, pair.adam_mini(FirstStep()));
  // v/(1-b2) = 25/2 and m/(1-b1) = g, so p moves by lr*g/sqrt(12.5).
  EXPECT_FLOAT_EQ(pair.v[0], 0.05 * 12.5);
  EXPECT_FLOAT_EQ(pair.m[1], 0.4);
  EXPECT_FLOAT_EQ(pair.p[0], 1 - 0.5 * 3 / std::sqrt(12.5));
  EXPECT_FLOAT_EQ(pair.p[1], -2 - 0.5 * 4 / std::sqrt(12.5));
}

TEST(ReferenceKernelsTest, FusedComputesTheSumItself) {
  Pair fused;
  Pair stepped;
  fused.sum = -1;
  RunKernel(ReferenceKernels().adam_mini_fused, fused.adam_mini(FirstStep()));
  RunKernel(ReferenceKernels().adam_mini_step, stepped.adam_mini(FirstStep()));
  EXPECT_EQ(fused.p[0], stepped.p[0]);
  EXPECT_EQ(fused.v[0], stepped.v[0]);
}

TEST(ReferenceKernelsTest, FirstAdamWStepMovesEveryElementByTheLearningRate) {
  Pair pair;
  const StepScalars scalars = FirstStep();
  AdamWArgs args = {pair.p, pair.g, pair.m, pair.v, 2, &scalars};
  RunKernel(ReferenceKernels().adamw, args);
  EXPECT_FLOAT_EQ(pair.p[0], 0.5);
  EXPECT_FLOAT_EQ(pair.p[1], -2.5);
  EXPECT_FLOAT_EQ(pair.v[1], 0.05 * 16);
}

TEST(ReferenceKernelsTest, DecaysBeforeTheUpdateAndOnlyTheWeights) {
  Pair pair;
  StepScalars scalars = FirstStep();
  scalars.weight_decay = 1;
  AdamWArgs args = {pair.p, pair.g, pair.m, pair.v, 2, &scalars};
  RunKernel(ReferenceKernels().adamw, args);
  EXPECT_FLOAT_EQ(pair.p[0], 0.5 * 1 - 0.5);
  EXPECT_FLOAT_EQ(pair.m[0], 0.3);
}

TEST(ReferenceKernelsTest, PutsEpsilonOutsideTheCorrectedRoot) {
  Pair pair;
  StepScalars scalars = FirstStep();
  scalars.epsilon = 1;
  AdamWArgs args = {pair.p, pair.g, pair.m, pair.v, 2, &scalars};
  RunKernel(ReferenceKernels().adamw, args);
  EXPECT_FLOAT_EQ(pair.p[0], 1 - 0.5 * 3 / (3 + 1));
}

TEST(ReferenceKernelsTest, ScalesTheGradient) {
  Pair scaled;
  Pair plain;
  StepScalars scalars = FirstStep();
  scalars.gradient_scale = 0.5;
  RunKernel(ReferenceKernels().adam_mini_step, scaled.adam_mini(scalars));
  plain.g[0] = 1.5;
  plain.g[1] = 2;
  plain.sum = 25. / 4;
  RunKernel(ReferenceKernels().adam_mini_step, plain.adam_mini(FirstStep()));
  EXPECT_EQ(scaled.m[1], plain.m[1]);
  EXPECT_EQ(scaled.v[0], plain.v[0]);
  EXPECT_EQ(scaled.p[1], plain.p[1]);
}

TEST(ReferenceKernelsTest, SgdDecaysThenMovesByTheMomentumTimesTheRate) {
  Pair pair;
  pair.m[0] = 2;
  StepScalars scalars = FirstStep();
  scalars.weight_decay = 0.5;
  scalars.gradient_scale = 2;
  RunKernel(ReferenceKernels().sgd, {pair.p, pair.g, pair.m, 2, &scalars});
  EXPECT_FLOAT_EQ(pair.m[0], 0.9 * 2 + 2 * 3);
  EXPECT_FLOAT_EQ(pair.p[0], 1 * 0.75 - 0.5 * 7.8);
  EXPECT_FLOAT_EQ(pair.p[1], -2 * 0.75 - 0.5 * 8);
}

TEST(ReferenceKernelsTest, IsNamedReference) {
  EXPECT_EQ(std::string(ReferenceKernels().name), "reference");
}

}  // namespace
}  // namespace zeromini
