// What is left out or matches nothing: refused, with the cure, instead of
// training something else.

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"
#include "zeromini/plan_bytes.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

std::vector<ParamSpec> SmallModel() {
  return {Spec("layer0.weight", {12, 8}, BlockRule::Rows(), 0),
          Spec("layer0.bias", {8}, BlockRule::Element(), 0)};
}

TEST(SpecRefusalsTest, AStepWithoutALearningRateIsRefusedOnEveryRank) {
  RunRanks(2, [](int, Communicator& group) {
    Replica replica(SmallModel());
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(ExactOptions(), replica.specs(), group));
    const auto step = [&](const StepOptions& options) {
      const std::vector<float> ones(12 * 8, 1.0f);
      EXPECT_OK(optimizer->GradReady(0, ones.data()));
      EXPECT_OK(optimizer->GradReady(1, ones.data()));
      return optimizer->Step(options);
    };
    EXPECT_THAT(step(StepOptions()),
                StatusIs(kInvalid, AllOf(HasSubstr("learning_rate"),
                                         HasSubstr("is not given"),
                                         HasSubstr("nothing was updated"))));
    EXPECT_EQ(replica.Home(0)[5], InitialWeight(0, 5));
    // What is asked for is done.
    ASSERT_OK_AND_ASSIGN(const StepReport zero, step({0}));
    EXPECT_EQ(zero.step, 1);
    EXPECT_EQ(replica.Home(0)[5], InitialWeight(0, 5));
    ASSERT_OK(step({0.5}));
    EXPECT_NE(replica.Home(0)[5], InitialWeight(0, 5));
  });
}

TEST(SpecRefusalsTest, ARateThatOneRankForgotIsEveryRanksError) {
  RunRanks(3, [](int rank, Communicator& group) {
    Replica replica(SmallModel());
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(ExactOptions(), replica.specs(), group));
    const std::vector<float> ones(12 * 8, 1.0f);
    ASSERT_OK(optimizer->GradReady(0, ones.data()));
    ASSERT_OK(optimizer->GradReady(1, ones.data()));
    StepOptions options;
    if (rank != 1) options.learning_rate = 0.5;
    EXPECT_THAT(optimizer->Step(options),
                StatusIs(kInvalid, HasSubstr("learning rate")));
    EXPECT_EQ(replica.Home(0)[5], InitialWeight(0, 5));
  });
}

absl::Status Create(const std::vector<ParamSpec>& specs,
                    const std::vector<HyperGroup>& more_groups = {}) {
  OptimizerOptions options = ExactOptions();
  options.memory = MemoryForm::kFlat;
  for (const HyperGroup& group : more_groups)
    options.hyper_groups.push_back(group);
  const auto self = MakeSelf();
  return MakeOptimizer(options, specs, *self).status();
}

TEST(SpecRefusalsTest, AForgottenShapeIsRefusedByName) {
  std::vector<ParamSpec> specs = SmallModel();
  specs[1].shape.clear();
  EXPECT_THAT(Create(specs),
              StatusIs(kInvalid, AllOf(HasSubstr("layer0.bias"),
                                       HasSubstr("shape"), HasSubstr("{1}"))));
  specs[1].shape = {1};
  EXPECT_OK(Create(specs));
}

HyperGroup Group(std::string name, std::vector<std::string> patterns) {
  HyperGroup group;
  group.name = std::move(name);
  group.patterns = std::move(patterns);
  return group;
}

// Each names the parameter, on every rank, though one rank alone has it.
TEST(SpecRefusalsTest, RulesThatContradictThemselvesAreRefusedOnEveryRank) {
  const auto fused = [](int64_t rows_per_block, int form) {
    return BlockRule::Fused(
        {{4, rows_per_block, std::nullopt, static_cast<MomentForm>(form)}});
  };
  BlockRule heads = BlockRule::Factored();
  heads.rows_per_head = 2;
  for (const BlockRule& rule :
       {fused(2, 1), fused(1, 3), fused(1, -1), heads}) {
    RunRanks(3, [&](int rank, Communicator& group) {
      std::vector<ParamSpec> specs = SmallModel();
      if (rank == 1) specs[0].rule = rule;
      Replica replica(specs);
      EXPECT_THAT(MakeOptimizer(ExactOptions(), replica.specs(), group),
                  StatusIs(kInvalid, AllOf(HasSubstr("rank 1: "),
                                           HasSubstr("layer0.weight"))));
    });
  }
  RunRanks(2, [&](int rank, Communicator& group) {
    std::vector<ParamSpec> specs = SmallModel();
    specs[1].rule = BlockRule::Columns();
    Replica replica(specs);
    EXPECT_THAT(MakeOptimizer(ExactOptions(), replica.specs(), group),
                StatusIs(kInvalid, AllOf(HasSubstr("layer0.bias"),
                                         HasSubstr("BlockRule::Element()"))));
    OptimizerOptions options = ExactOptions();
    if (rank == 1) options.second_moment = static_cast<SecondMoment>(2);
    EXPECT_THAT(MakeOptimizer(options, Replica(SmallModel()).specs(), group),
                StatusIs(kInvalid, AllOf(HasSubstr("rank 1: "),
                                         HasSubstr("second_moment is 2"))));
  });
}

TEST(SpecRefusalsTest, FactoredSecondMomentsNeedAGroupOfAdamMinis) {
  OptimizerOptions options;
  options.second_moment = SecondMoment::kFactored;
  options.algorithm = Algorithm::kAdamW;
  EXPECT_THAT(PlanFor(SmallModel(), options, 2),
              StatusIs(kInvalid, AllOf(HasSubstr("second_moment is factored"),
                                       HasSubstr("algorithm is adamw"))));
  options.hyper_groups.push_back(Group("weights", {"*.weight"}));
  options.hyper_groups.back().algorithm = Algorithm::kAdamMini;
  EXPECT_OK(PlanFor(SmallModel(), options, 2));
}

TEST(SpecRefusalsTest, APatternThatMatchesNothingIsNamedWithItsGroup) {
  EXPECT_OK(Create(SmallModel(), {Group("biases", {"*.bias"})}));
  for (const std::vector<std::string>& patterns :
       {std::vector<std::string>{"*.biases"},
        std::vector<std::string>{"*.bias", "*.biases"}}) {
    EXPECT_THAT(
        Create(SmallModel(), {Group("biases", patterns)}),
        StatusIs(kInvalid, AllOf(HasSubstr("group 'biases'"),
                                 HasSubstr("pattern '*.biases' matches no "
                                           "parameter"))));
  }
}

TEST(SpecRefusalsTest, APredicateThatHoldsForNothingIsRefused) {
  HyperGroup group;
  group.name = "wide";
  group.matches = [](const ParamSpec& spec) { return spec.shape[0] > 100; };
  EXPECT_THAT(Create(SmallModel(), {group}),
              StatusIs(kInvalid, AllOf(HasSubstr("group 'wide'"),
                                       HasSubstr("predicate"))));
}

TEST(SpecRefusalsTest, AGroupThatEarlierOnesLeaveNothingIsRefused) {
  EXPECT_THAT(
      Create(SmallModel(), {Group("all", {"*"}), Group("biases", {"*.bias"})}),
      StatusIs(kInvalid,
               AllOf(HasSubstr("group 'biases'"), HasSubstr("earlier group"))));
}

TEST(SpecRefusalsTest, APatternThatOnlyMeetsParametersWithAGroupIsRefused) {
  std::vector<ParamSpec> specs = SmallModel();
  specs[1].hyper_group = 0;
  EXPECT_THAT(Create(specs, {Group("biases", {"*.bias"})}),
              StatusIs(kInvalid, HasSubstr("pattern '*.bias'")));
}

TEST(SpecRefusalsTest, APatternThatOnlyMeetsATiedParameterIsRefused) {
  std::vector<ParamSpec> specs = SmallModel();
  specs.push_back(Spec("head", {12, 8}, BlockRule::Rows(), -1));
  specs.back().tied_to = "layer0.weight";
  EXPECT_THAT(Create(specs, {Group("heads", {"head"})}),
              StatusIs(kInvalid, HasSubstr("pattern 'head'")));
}

TEST(SpecRefusalsTest, SetGroupRefusesPatternsThatWouldChangeNothing) {
  OptimizerOptions options = ExactOptions();
  options.memory = MemoryForm::kFlat;
  options.hyper_groups.push_back(Group("biases", {"*.bias"}));
  const auto self = MakeSelf();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(options, SmallModel(), *self));
  EXPECT_THAT(optimizer->SetHyperGroup(1, Group("biases", {"*.weight"})),
              StatusIs(kInvalid, AllOf(HasSubstr("group 'biases'"),
                                       HasSubstr("patterns cannot change"))));
  EXPECT_OK(optimizer->SetHyperGroup(1, Group("biases", {"*.bias"})));
  EXPECT_OK(optimizer->SetHyperGroup(1, Group("biases", {})));
}

TEST(SpecRefusalsTest, AGroupThatIsJoinedByIndexOrByNobodyIsFine) {
  std::vector<ParamSpec> specs = SmallModel();
  specs[1].hyper_group = 1;
  EXPECT_OK(Create(specs, {Group("biases", {}), Group("spare", {})}));
}

}  // namespace
}  // namespace zeromini
