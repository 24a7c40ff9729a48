// Groups of parameters: who joins, what each does, and clipping by value.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

// The matrices by Adam-mini, the norms and biases by AdamW, one by SGD.
OptimizerOptions ThreeGroups() {
  OptimizerOptions options = ExactOptions();
  options.hyper_groups.resize(3);
  options.hyper_groups[1].name = "small";
  options.hyper_groups[1].algorithm = Algorithm::kAdamW;
  options.hyper_groups[1].learning_rate_scale = 0.5;
  options.hyper_groups[1].patterns = {"*.norm", "layer?.bias"};
  options.hyper_groups[2].name = "by sgd";
  options.hyper_groups[2].algorithm = Algorithm::kSgd;
  options.hyper_groups[2].beta1 = 0.5;
  options.hyper_groups[2].matches = [](const ParamSpec& spec) {
    return spec.layer == 1 && spec.shape.size() == 3;
  };
  return options;
}

TEST(GroupsTest, NamesAndPredicatesDecideWhoJoins) {
  std::vector<ParamSpec> specs = EveryKindOfParam();
  specs[11].hyper_group =
      2;  // layer0.norm, which a pattern of group 1 matches.
  Replica replica(specs);
  auto group = MakeSelf();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(ThreeGroups(), replica.specs(), *group));
  for (const PlannedParam& param : optimizer->plan().params) {
    int expected = 0;
    if (param.name == "layer1.norm" || param.name == "layer2.norm" ||
        param.name == "layer0.bias" || param.name == "layer1.bias" ||
        param.name == "layer2.bias") {
      expected = 1;
    }
    if (param.name == "layer1.stack" || param.name == "layer1.factored_stack" ||
        param.name == "layer0.norm") {
      expected = 2;
    }
    EXPECT_EQ(param.hyper_group, expected) << param.name;
    const Algorithm algorithms[] = {Algorithm::kAdamMini, Algorithm::kAdamW,
                                    Algorithm::kSgd};
    EXPECT_EQ(param.algorithm, algorithms[expected]) << param.name;
  }
}

TEST(GroupsTest, MixedAlgorithmsGiveTheBitsOfOneRank) {
  TrainingCase one;
  one.options = ThreeGroups();
  one.options.max_grad_norm = 0.5;
  const TrainingResult expected = Train(one);
  EXPECT_EQ(expected.states[6].second_moment.size(), 2u);   // By Adam-mini.
  EXPECT_EQ(expected.states[11].second_moment.size(), 8u);  // By AdamW.
  EXPECT_EQ(expected.states[18].second_moment.size(), 0u);  // By SGD.
  for (int ranks : {2, 3, 5}) {
    for (int stage : {1, 2, 3}) {
      TrainingCase many = one;
      many.ranks = ranks;
      many.options.stage = stage;
      many.options.memory = MemoryForm::kFlat;
      ExpectSameTraining(one, Train(many), expected);
    }
  }
}

TEST(GroupsTest, SgdAddsUpMomentumAndDecaysApart) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.algorithm = Algorithm::kSgd;
  c.options.hyper_groups[0].beta1 = 0.5;
  c.options.hyper_groups[0].weight_decay = 0.25;
  c.specs = {Spec("w", {4, 8}, BlockRule::Rows(), 0)};
  c.steps = 2;
  c.learning_rate = 0.125;
  const TrainingResult got = Train(c);
  for (int64_t i = 0; i < 32; ++i) {
    const double g1 = GradientPart(0, i, 1, 0, 1);
    const double g2 = GradientPart(0, i, 2, 0, 1);
    const double kept = 1 - 0.125 * 0.25;
    const double first = InitialWeight(0, i) * kept - 0.125 * g1;
    const double second = first * kept - 0.125 * (0.5 * g1 + g2);
    EXPECT_NEAR(got.weights[0][i], second, 1e-7) << i;
    EXPECT_FLOAT_EQ(got.states[0].momentum[i], float(0.5 * g1 + g2));
  }
}

TEST(GroupsTest, TheAlgorithmOfAGroupCannotChange) {
  Replica replica(EveryKindOfParam());
  auto group = MakeSelf();
  const OptimizerOptions options = ThreeGroups();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(options, replica.specs(), *group));
  HyperGroup changed = options.hyper_groups[1];
  changed.algorithm = Algorithm::kAdamMini;
  EXPECT_THAT(optimizer->SetHyperGroup(1, changed),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'small': the algorithm cannot change")));
  changed.algorithm.reset();  // As it was.
  changed.learning_rate_scale = 2;
  EXPECT_OK(optimizer->SetHyperGroup(1, changed));
}

// SGD divides by no epsilon, so any is good; Adam's check would refuse it.
TEST(GroupsTest, ASetGroupThatNamesNoAlgorithmKeepsTheGroupsOwn) {
  auto self = MakeSelf();
  OptimizerOptions options = ExactOptions();
  options.hyper_groups[0].algorithm = Algorithm::kSgd;
  options.hyper_groups[0].epsilon = 2e-38;
  Replica replica(EveryKindOfParam());
  TrainingCase c;
  c.options = options;
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(options, replica.specs(), *self));
  HyperGroup changed = options.hyper_groups[0];
  changed.algorithm.reset();
  ASSERT_OK(optimizer->SetHyperGroup(0, changed));
  ASSERT_OK(GiveGradients(c, *optimizer, 1, 0));
  EXPECT_OK(optimizer->Step({1.0}));
}

TEST(GroupsTest, ClippingByValueCutsEachElementOfTheSum) {
  constexpr float kLimit = 0.0625f;
  TrainingCase cut;
  cut.options = ExactOptions();
  cut.options.max_grad_norm = 0.5;
  cut.specs.pop_back();  // The tied head adds to the embedding before the cut.
  cut.edit = [](int, int, int, std::vector<float>* gradient) {
    for (float& g : *gradient) {
      g = g > kLimit ? kLimit : g < -kLimit ? -kLimit : g;
    }
    return true;
  };
  const TrainingResult expected = Train(cut);
  for (int ranks : {1, 3}) {
    for (int stage : {1, 2, 3}) {
      TrainingCase clipped = cut;
      clipped.edit = nullptr;
      clipped.ranks = ranks;
      clipped.options.max_grad_value = kLimit;
      clipped.options.stage = stage;
      clipped.options.memory = MemoryForm::kFlat;
      const TrainingResult got = Train(clipped);
      ExpectSameTraining(cut, got, expected);
      EXPECT_EQ(got.norms, expected.norms);
    }
  }
}

TEST(GroupsTest, ClippingByValueStillSeesWhatIsNotFinite) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.max_grad_value = 0.5;
  c.options.non_finite = NonFiniteGradients::kSkip;
  RunRanks(2, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    TrainingCase bad = c;
    bad.edit = [](int p, int, int from, std::vector<float>* gradient) {
      if (p == 4 && from == 1) gradient->front() = INFINITY;
      return true;
    };
    ASSERT_OK(GiveGradients(bad, *optimizer, 1, rank));
    ASSERT_OK_AND_ASSIGN(const StepReport report, optimizer->Step({0.01}));
    EXPECT_TRUE(report.not_finite);
    EXPECT_THAT(report.skipped_because, HasSubstr("layer0.columns"));
  });
}

}  // namespace
}  // namespace zeromini
