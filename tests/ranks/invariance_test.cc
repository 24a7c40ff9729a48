// N ranks are 1 rank, bit for bit, wherever the gradient sums are exact.

#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/delayed_stream.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

TrainingCase Case(Algorithm algorithm, int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.algorithm = algorithm;
  c.options.max_grad_norm = 0.5;  // Bites in every step.
  c.ranks = ranks;
  return c;
}

class InvarianceTest : public testing::TestWithParam<
                           std::tuple<Algorithm, int, int, MemoryForm>> {};

TEST_P(InvarianceTest, EveryNumberOfRanksGivesTheBitsOfOne) {
  const auto [algorithm, ranks, stage, memory] = GetParam();
  if (stage == 3 && memory != MemoryForm::kFlat) GTEST_SKIP() << "refused";
  const TrainingCase one = Case(algorithm, 1);
  TrainingCase many = Case(algorithm, ranks);
  many.options.stage = stage;
  many.options.memory = memory;
  const TrainingResult expected = Train(one);
  const TrainingResult got = Train(many);
  ExpectSameTraining(one, got, expected);
  EXPECT_EQ(got.norms, expected.norms);
  EXPECT_NE(got.weights[0][0], InitialWeight(0, 0));
}

INSTANTIATE_TEST_SUITE_P(
    All, InvarianceTest,
    testing::Combine(testing::Values(Algorithm::kAdamMini, Algorithm::kAdamW),
                     testing::Values(1, 2, 3, 5, 8), testing::Values(1, 2, 3),
                     testing::Values(MemoryForm::kExternal,
                                     MemoryForm::kFlat)));

TEST(InvarianceTest, TwoRunsGiveTheSameBits) {
  const TrainingCase c = Case(Algorithm::kAdamMini, 3);
  ExpectSameTraining(c, Train(c), Train(c));
}

TEST(InvarianceTest, TheFusedRoadGivesTheBitsOfTheCheckedOne) {
  for (Algorithm algorithm : {Algorithm::kAdamMini, Algorithm::kAdamW}) {
    TrainingCase checked = Case(algorithm, 3);
    checked.options.max_grad_norm = 0;
    TrainingCase fused = checked;
    fused.options.non_finite = NonFiniteGradients::kIgnore;
    ExpectSameTraining(checked, Train(fused), Train(checked));
  }
}

TEST(InvarianceTest, ASplitBlockGivesTheBitsOfAWholeOne) {
  TrainingCase one = Case(Algorithm::kAdamMini, 1);
  one.specs = {Spec("whole", {64, 8}, BlockRule::Whole(), 0),
               Spec("rows", {6, 8}, BlockRule::Rows(), 0)};
  for (double clip : {0.0, 0.5}) {
    one.options.max_grad_norm = clip;
    one.options.non_finite =
        clip > 0 ? NonFiniteGradients::kError : NonFiniteGradients::kIgnore;
    TrainingCase many = one;
    many.ranks = 5;
    PlanOptions plan_options;
    plan_options.ranks = many.ranks;
    ASSERT_OK_AND_ASSIGN(Plan plan, MakePlan(many.specs, plan_options));
    ASSERT_EQ(plan.split_blocks.size(), 1u);
    ExpectSameTraining(one, Train(many), Train(one));
  }
}

TEST(InvarianceTest, SmallBucketsGiveTheBitsOfLargeOnes) {
  const TrainingCase small = Case(Algorithm::kAdamMini, 2);
  TrainingCase large = small;
  large.options.bucket_bytes = 0;
  ExpectSameTraining(large, Train(small), Train(large));
}

TEST(InvarianceTest, AnyCutsGiveTheBitsOfWholeLayers) {
  for (int ranks : {1, 2, 3, 5, 8}) {
    for (int stage : {1, 2, 3}) {
      TrainingCase layers = Case(Algorithm::kAdamMini, ranks);
      layers.options.bucketing = Bucketing::kByLayer;
      layers.options.bucket_bytes = 0;
      layers.options.stage = stage;
      layers.options.memory = MemoryForm::kFlat;
      const TrainingResult expected = Train(layers);
      for (int64_t bytes : {32, 200, 600}) {
        for (BlockCuts blocks : {BlockCuts::kWhole, BlockCuts::kSplitAtCuts}) {
          TrainingCase cut = layers;
          cut.options.bucketing = Bucketing::kCheapest;
          cut.options.bucket_bytes = bytes;
          cut.options.blocks = blocks;
          ExpectSameTraining(layers, Train(cut), expected);
        }
      }
    }
  }
}

TEST(InvarianceTest, DelayedCommunicationChangesNoBit) {
  for (int stage : {1, 2}) {
    TrainingCase prompt = Case(Algorithm::kAdamMini, 3);
    prompt.options.stage = stage;
    TrainingCase late = prompt;
    late.group.make_stream =
        DelayedStream::Factory(7, std::chrono::microseconds(3000));
    ExpectSameTraining(prompt, Train(late), Train(prompt));
  }
}

TEST(InvarianceTest, MicroStepsAddUpToTheirSum) {
  TrainingCase once = Case(Algorithm::kAdamMini, 2);
  once.edit = [](int, int, int, std::vector<float>* gradient) {
    for (float& g : *gradient) g *= 3;
    return true;
  };
  const TrainingResult expected = Train(once);
  for (int stage : {1, 2}) {
    for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
      TrainingCase micro = Case(Algorithm::kAdamMini, 2);
      micro.options.micro_steps = 3;
      micro.options.stage = stage;
      micro.options.memory = memory;
      ExpectSameTraining(micro, Train(micro), expected);
    }
  }
}

TEST(InvarianceTest, AMeanOverRanksAndMicroStepsIsTheirSumDivided) {
  TrainingCase sum = Case(Algorithm::kAdamMini, 4);
  sum.options.micro_steps = 2;
  sum.edit = [](int, int, int, std::vector<float>* gradient) {
    for (float& g : *gradient) g /= 8;
    return true;
  };
  TrainingCase mean = Case(Algorithm::kAdamMini, 4);
  mean.options.micro_steps = 2;
  mean.options.reduction = Reduction::kMean;
  ExpectSameTraining(mean, Train(mean), Train(sum));
}

}  // namespace
}  // namespace zeromini
