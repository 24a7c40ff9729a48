// Numbers that are no error as doubles, but would be in a kernel's fp32: each
// is refused by name, on every rank alike, before anything is updated.

#include <cmath>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

void ExpectOptionsRefused(const std::function<void(OptimizerOptions*)>& change,
                          const char* why) {
  RunRanks(2, [&](int rank, Communicator& group) {
    OptimizerOptions options = ExactOptions();
    if (rank == 1) change(&options);
    Replica replica(EveryKindOfParam());
    EXPECT_THAT(
        MakeOptimizer(options, replica.specs(), group).status(),
        StatusIs(kInvalid, testing::AllOf(HasSubstr("rank 1"), HasSubstr(why))))
        << why;
  });
}

TEST(BadNumbersTest, AnEpsilonThatFp32LosesIsRefused) {
  for (double epsilon :
       {0.0, -1.0, 1e-46, 1e-45, 1e-39, 1e39, kNan, kInfinity}) {
    ExpectOptionsRefused(
        [=](OptimizerOptions* o) { o->hyper_groups[0].epsilon = epsilon; },
        "epsilon must be positive in fp32");
  }
}

TEST(BadNumbersTest, ABetaThatIsOneInFp32IsRefused) {
  for (double beta : {1.0, 1 - 1e-9, -0.1, kNan}) {
    ExpectOptionsRefused(
        [=](OptimizerOptions* o) { o->hyper_groups[0].beta1 = beta; }, "betas");
    ExpectOptionsRefused(
        [=](OptimizerOptions* o) { o->hyper_groups[0].beta2 = beta; }, "betas");
  }
}

TEST(BadNumbersTest, DecayAndRateScalesBeyondFp32AreRefused) {
  for (double number : {-1.0, 1e39, kNan, kInfinity}) {
    ExpectOptionsRefused(
        [=](OptimizerOptions* o) { o->hyper_groups[0].weight_decay = number; },
        "weight decay");
    ExpectOptionsRefused(
        [=](OptimizerOptions* o) {
          o->hyper_groups[0].learning_rate_scale = number;
        },
        "learning rate scale");
  }
}

TEST(BadNumbersTest, LimitsThatFp32LosesAreRefused) {
  for (double limit : {-1.0, -kInfinity, 1e-50, kNan}) {
    ExpectOptionsRefused([=](OptimizerOptions* o) { o->max_grad_norm = limit; },
                         "max_grad_norm must");
    ExpectOptionsRefused(
        [=](OptimizerOptions* o) { o->max_grad_value = limit; },
        "max_grad_value must");
    ExpectOptionsRefused(
        [=](OptimizerOptions* o) { o->skip_above_grad_norm = limit; },
        "skip_above_grad_norm must");
  }
}

TEST(BadNumbersTest, AnInfiniteLimitIsNeverReached) {
  TrainingCase c;
  c.options = ExactOptions();
  c.ranks = 2;
  const TrainingResult expected = Train(c);
  c.options.max_grad_norm = kInfinity;
  c.options.max_grad_value = kInfinity;
  c.options.skip_above_grad_norm = kInfinity;
  ExpectSameTraining(c, Train(c), expected);
}

struct BadStep {
  double learning_rate;
  double loss_scale;
  std::function<void(OptimizerOptions*)> change;
  const char* why;
};

// On every rank, and the step after it is as if it had not been.
void ExpectStepRefused(const BadStep& bad) {
  TrainingCase c;
  c.options = ExactOptions();
  c.steps = 1;
  c.ranks = 2;
  if (bad.change) bad.change(&c.options);
  const TrainingResult expected = Train(c);
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    StepOptions options;
    options.learning_rate = bad.learning_rate;
    options.loss_scale = bad.loss_scale;
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    EXPECT_THAT(optimizer->Step(options),
                StatusIs(kInvalid, HasSubstr(bad.why)));
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    ASSERT_OK(optimizer->Step({c.learning_rate}));
    ASSERT_OK_AND_ASSIGN(const auto weights,
                         ReadWeights(c, 1, replica, *optimizer));
    EXPECT_EQ(weights, expected.weights[1]);
  });
}

TEST(BadNumbersTest, AStepThatFp32CannotTakeIsRefused) {
  for (const BadStep& bad : {
           BadStep{-0.01, 1, nullptr, "the rate not negative"},
           BadStep{kInfinity, 1, nullptr, "must be finite"},
           BadStep{1e39, 1, nullptr, "is beyond fp32"},
           BadStep{1e30, 1,
                   [](OptimizerOptions* o) {
                     o->hyper_groups[0].learning_rate_scale = 1e20;
                     o->hyper_groups[0].weight_decay = 0;
                     o->hyper_groups[0].epsilon = 1e20;
                   },
                   "times learning_rate_scale 1e+20"},
           BadStep{
               1, 1,
               [](OptimizerOptions* o) { o->hyper_groups[0].epsilon = 2e-38; },
               "raise epsilon"},
           BadStep{11, 1, nullptr, "decay would turn the weights around"},
           BadStep{0.01, 1e-40, nullptr, "with loss scale 1e-40"},
           BadStep{0.01, 1e300, nullptr, "with loss scale 1e+300"},
           BadStep{0.01, 1e-30,
                   [](OptimizerOptions* o) { o->max_grad_value = 1e-20; },
                   "max_grad_value"},
       }) {
    SCOPED_TRACE(bad.why);
    ExpectStepRefused(bad);
  }
}

// A rate of 11 times the group's decay of 0.1 is above 1.
TEST(BadNumbersTest, AGroupInWhichNothingDecaysMayHaveAnyRate) {
  for (bool decays : {false, true}) {
    TrainingCase c;
    c.options = ExactOptions();
    c.options.hyper_groups[0].decay_norms_and_biases = decays;
    c.specs = {Spec("norm", {8}, BlockRule::Whole(), 0),
               Spec("frozen", {8, 4}, BlockRule::Rows(), 0)};
    c.specs[1].frozen = true;
    auto self = MakeSelf();
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), *self));
    ASSERT_FALSE(optimizer->plan().params[0].decays);
    ASSERT_OK(GiveGradients(c, *optimizer, 1, 0));
    const absl::Status status = optimizer->Step({11}).status();
    if (!decays) {
      EXPECT_OK(status);
    } else {
      EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("turn the weights")));
    }
  }
}

// What is never divided by needs no size.
TEST(BadNumbersTest, SgdMayHaveAnyEpsilon) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.algorithm = Algorithm::kSgd;
  const TrainingResult expected = Train(c);
  c.options.hyper_groups[0].epsilon = 2e-38;
  ExpectSameTraining(c, Train(c), expected);
}

TEST(BadNumbersTest, SetGroupRefusesThemToo) {
  auto self = MakeSelf();
  Replica replica(EveryKindOfParam());
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(ExactOptions(), replica.specs(), *self));
  HyperGroup group;
  group.epsilon = 1e-46;
  EXPECT_THAT(optimizer->SetHyperGroup(0, group),
              StatusIs(kInvalid, HasSubstr("epsilon")));
}

}  // namespace
}  // namespace zeromini
