// What a caller or a gradient can get wrong: one clear error on every rank, no
// hang, nothing lost.

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

// Creates on `ranks` threads, with rank 1's specs and options changed, and
// returns every rank's status.
std::vector<absl::Status> CreateWithOddRank(
    int ranks,
    const std::function<void(OptimizerOptions*, std::vector<ParamSpec>*)>&
        change) {
  std::vector<absl::Status> statuses(ranks);
  RunRanks(ranks, [&](int rank, Communicator& group) {
    OptimizerOptions options = ExactOptions();
    std::vector<ParamSpec> specs = EveryKindOfParam();
    Replica replica(specs);
    specs = replica.specs();
    if (rank == 1) change(&options, &specs);
    statuses[rank] = MakeOptimizer(options, specs, group).status();
  });
  return statuses;
}

TEST(RefusalsTest, ADuplicateNameOnOneRankIsEveryRanksError) {
  for (const absl::Status& status : CreateWithOddRank(
           3, [](auto*, auto* specs) { (*specs)[2].name = "embedding"; })) {
    EXPECT_THAT(status, StatusIs(kInvalid, AllOf(HasSubstr("rank 1"),
                                                 HasSubstr("embedding"))));
  }
}

TEST(RefusalsTest, AnEmptyNameIsRefused) {
  for (const absl::Status& status : CreateWithOddRank(
           2, [](auto*, auto* specs) { (*specs)[3].name = ""; })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("rank 1")));
  }
}

template <typename Enum>
void Cast(int number, Enum* value) {
  *value = static_cast<Enum>(number);
}

// Of a name in the message, and what sets it to a number that it cannot be.
struct OddOption {
  const char* named;
  std::function<void(OptimizerOptions*, std::vector<ParamSpec>*)> set;
};

TEST(RefusalsTest, ANumberThatAnEnumDoesNotHaveIsRefusedByName) {
  const std::vector<OddOption> odd_enums = {
      {"algorithm is 3", [](auto* o, auto*) { Cast(3, &o->algorithm); }},
      {"reduction is 2", [](auto* o, auto*) { Cast(2, &o->reduction); }},
      {"non_finite is -1", [](auto* o, auto*) { Cast(-1, &o->non_finite); }},
      {"absent_gradients is 2",
       [](auto* o, auto*) { Cast(2, &o->absent_gradients); }},
      {"memory is 2", [](auto* o, auto*) { Cast(2, &o->memory); }},
      {"naming is 2", [](auto* o, auto*) { Cast(2, &o->naming); }},
      {"blocks is 2", [](auto* o, auto*) { Cast(2, &o->blocks); }},
      {"bucketing is 2", [](auto* o, auto*) { Cast(2, &o->bucketing); }},
      {"second_moment is 2",
       [](auto* o, auto*) { Cast(2, &o->second_moment); }},
      {"value_blocks is 2", [](auto* o, auto*) { Cast(2, &o->value_blocks); }},
      {"gradient_wire", [](auto* o, auto*) { Cast(9, &o->gradient_wire); }},
      {"weight_wire", [](auto* o, auto*) { Cast(9, &o->weight_wire); }},
      {"master is 4", [](auto* o, auto*) { Cast(4, &o->master); }},
      {"state is 3", [](auto* o, auto*) { Cast(3, &o->state); }},
      {"device is 2", [](auto* o, auto*) { Cast(2, &o->device); }},
      {"kernels is 2", [](auto* o, auto*) { Cast(2, &o->kernels); }},
      {"group 'default': algorithm is 7",
       [](auto* o, auto*) {
         o->hyper_groups[0].algorithm = static_cast<Algorithm>(7);
       }},
      {"embedding': the dtype",
       [](auto*, auto* specs) { Cast(9, &(*specs)[0].dtype); }},
      {"embedding': rule.kind is 8",
       [](auto*, auto* specs) { Cast(8, &(*specs)[0].rule.kind); }},
      {"embedding': rule.segments.form is 3",
       [](auto*, auto* specs) {
         (*specs)[0].rule = BlockRule::Fused({{1}});
         Cast(3, &(*specs)[0].rule.segments[0].form);
       }},
  };
  for (const OddOption& odd : odd_enums) {
    for (const absl::Status& status : CreateWithOddRank(2, odd.set)) {
      EXPECT_THAT(status, StatusIs(kInvalid, AllOf(HasSubstr("rank 1"),
                                                   HasSubstr(odd.named))));
    }
  }
}

TEST(RefusalsTest, ADeviceThatTheLibraryLacksIsEveryRanksError) {
  const auto cuda = [](auto* options, auto*) {
    options->device = DeviceKind::kCuda;
  };
  for (const absl::Status& status : CreateWithOddRank(2, cuda)) {
    EXPECT_THAT(
        status,
        StatusIs(absl::StatusCode::kUnimplemented,
                 AllOf(HasSubstr("rank 1: device is cuda"),
                       HasSubstr("OptimizerOptions::device to kHost"))));
  }
}

TEST(RefusalsTest, AShapeThatDiffersNamesRankAndParameter) {
  for (const absl::Status& status :
       CreateWithOddRank(3, [](auto*, auto* specs) {
         (*specs)[2].shape = {12, 8};
       })) {
    EXPECT_THAT(status, StatusIs(kInvalid, AllOf(HasSubstr("layer0.wk"),
                                                 HasSubstr("[12,8]"),
                                                 HasSubstr("on rank 1"))));
  }
}

TEST(RefusalsTest, AMissingParameterNamesTheCounts) {
  const std::string counts =
      absl::StrCat("rank 1 has ", EveryKindOfParam().size() - 1, " parameters");
  for (const absl::Status& status :
       CreateWithOddRank(2, [](auto*, auto* specs) { specs->pop_back(); })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr(counts)));
  }
}

TEST(RefusalsTest, ANumberOfTheLayoutThatMeansNothingIsRefusedByName) {
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr int64_t kMost = int64_t{1} << 50;
  const std::vector<OddOption> odd = {
      {"bucket_bytes must be 0 to 1125899906842624, got -1",
       [](auto* o, auto*) { o->bucket_bytes = -1; }},
      {"bucket_bytes must be",
       [](auto* o, auto*) { o->bucket_bytes = kMost + 1; }},
      {"buffer_budget_bytes must be 0 to 1125899906842624, got -2",
       [](auto* o, auto*) { o->buffer_budget_bytes = -2; }},
      {"buffer_budget_bytes must be",
       [](auto* o, auto*) { o->buffer_budget_bytes = kMost + 1; }},
      {"collective_cost_bytes must be 0 to 1125899906842624, got -3",
       [](auto* o, auto*) { o->collective_cost_bytes = -3; }},
      {"collective_cost_bytes must be",
       [](auto* o, auto*) { o->collective_cost_bytes = kMost + 1; }},
      {"0 to 1e+06, got -0.5", [](auto* o, auto*) { o->copy_cost = -0.5; }},
      {"0 to 1e+06, got nan", [](auto* o, auto*) { o->copy_cost = kNan; }},
      {"0 to 1e+06, got inf", [](auto* o, auto*) { o->copy_cost = kInfinity; }},
      {"0 to 1e+06, got 2e+06", [](auto* o, auto*) { o->copy_cost = 2e6; }},
  };
  for (const OddOption& option : odd) {
    for (const absl::Status& status : CreateWithOddRank(2, option.set)) {
      EXPECT_THAT(status, StatusIs(kInvalid, AllOf(HasSubstr("rank 1"),
                                                   HasSubstr(option.named))));
    }
  }
}

TEST(RefusalsTest, ANegativeNormIsNoLimit) {
  for (const absl::Status& status : CreateWithOddRank(
           2,
           [](auto*options, auto*) { options->skip_above_grad_norm = -1; })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("skip_above_grad_norm")));
  }
}

TEST(RefusalsTest, OptionsThatDifferAreRefused) {
  for (const absl::Status& status : CreateWithOddRank(
           2, [](auto*options, auto*) { options->max_grad_norm = 3; })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("other optimizer")));
  }
}

TEST(RefusalsTest, NullAndOverlappingDataNameTheParameters) {
  for (const absl::Status& status : CreateWithOddRank(
           2, [](auto*, auto* specs) { (*specs)[4].data = nullptr; })) {
    EXPECT_THAT(status,
                StatusIs(kInvalid, HasSubstr("'layer0.columns' has no data")));
  }
  for (const absl::Status& status :
       CreateWithOddRank(2, [](auto*, auto* specs) {
         (*specs)[1].data = static_cast<float*>((*specs)[0].data) + 4;
       })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("overlap in memory")));
  }
}

TEST(RefusalsTest, HyperParametersOutOfRangeAreRefused) {
  for (const absl::Status& status : CreateWithOddRank(
           2,
           [](auto*options, auto*) { options->hyper_groups[0].beta1 = 1; })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("betas")));
  }
  for (const absl::Status& status :
       CreateWithOddRank(2, [](auto*options, auto*) {
         options->state = static_cast<StateFormat>(9);
       })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("state is 9")));
  }
  for (const absl::Status& status : CreateWithOddRank(
           2, [](auto*, auto* specs) { (*specs)[0].hyper_group = 7; })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("group 7")));
  }
  for (const absl::Status& status :
       CreateWithOddRank(2, [](auto*options, auto*) { options->stage = 3; })) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr("memory must be flat")));
  }
}

// Steps all ranks once under `c` and checks every rank's status.
template <typename Matcher>
void ExpectStep(const TrainingCase& c, const Matcher& matcher) {
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    EXPECT_THAT(optimizer->Step({0.01}), matcher);
  });
}

TrainingCase Ranks(int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.ranks = ranks;
  return c;
}

TEST(RefusalsTest, AnAbsentGradientNamesTensorAndRanks) {
  for (int stage : {1, 2}) {
    TrainingCase c = Ranks(3);
    c.options.stage = stage;
    c.edit = [](int param, int, int rank, std::vector<float>*) {
      return !(param == 5 && rank != 1);
    };
    ExpectStep(c, StatusIs(kPrecondition, AllOf(HasSubstr("layer0.fused"),
                                                HasSubstr("ranks 0, 2"))));
  }
}

TEST(RefusalsTest, ANonFiniteGradientNamesTheTensor) {
  for (float bad : {std::numeric_limits<float>::quiet_NaN(),
                    -std::numeric_limits<float>::infinity()}) {
    for (int param : {0, 3, 4, 8}) {
      TrainingCase c = Ranks(3);
      c.edit = [=](int p, int, int rank, std::vector<float>* gradient) {
        if (p == param && rank == 2) gradient->back() = bad;
        return true;
      };
      ExpectStep(c, StatusIs(kInvalid, AllOf(HasSubstr(c.specs[param].name),
                                             HasSubstr("not finite"))));
    }
  }
}

TEST(RefusalsTest, LearningRatesThatDifferAreRefused) {
  RunRanks(3, [&](int rank, Communicator& group) {
    const TrainingCase c = Ranks(3);
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    EXPECT_THAT(optimizer->Step({rank == 2 ? 0.02 : 0.01}),
                StatusIs(kInvalid, HasSubstr("disagree on the learning rate")));
  });
}

TEST(RefusalsTest, ALossScaleThatDiffersOrIsNoScaleIsEveryRanksError) {
  const TrainingCase c = Ranks(3);
  RunRanks(3, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    const auto step = [&](double rate, double scale) {
      EXPECT_OK(GiveGradients(c, *optimizer, 1, rank));
      StepOptions options;
      options.learning_rate = rate;
      options.loss_scale = scale;
      return optimizer->Step(options).status();
    };
    EXPECT_THAT(step(0.1, rank == 1 ? 2 : 1),
                StatusIs(kInvalid, HasSubstr("disagree on the learning rate, "
                                             "loss scale")));
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    for (double scale : {0.0, -1.0, kNan}) {
      EXPECT_THAT(step(0.1, scale),
                  StatusIs(kInvalid, HasSubstr("the scale positive")));
    }
    EXPECT_THAT(step(kNan, 1), StatusIs(kInvalid, HasSubstr("must be finite")));
    for (int p = 0; p < int(c.specs.size()); ++p) {
      EXPECT_EQ(replica.Home(p)[0], InitialWeight(p == 38 ? 0 : p, 0));
    }
    EXPECT_OK(step(0.1, 1));
  });
}

// A refused step is as if its gradients had never come.
void ExpectRefusedStepLeavesNoTrace(const OptimizerOptions& options,
                                    const TrainingCase& bad, bool is_error) {
  TrainingCase clean = Ranks(bad.ranks);
  clean.options = options;
  const TrainingResult expected = Train(clean);
  std::vector<std::vector<float>> weights(clean.specs.size());
  RunRanks(bad.ranks, [&](int rank, Communicator& group) {
    Replica replica(clean.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(options, replica.specs(), group));
    for (int step = 1; step <= clean.steps; ++step) {
      ASSERT_OK(GiveGradients(bad, *optimizer, step, rank));
      auto refused = optimizer->Step({clean.learning_rate});
      EXPECT_EQ(refused.ok(), !is_error);
      if (refused.ok()) {
        EXPECT_TRUE(refused->skipped);
      }
      ASSERT_OK(GiveGradients(clean, *optimizer, step, rank));
      ASSERT_OK(optimizer->Step({clean.learning_rate}));
    }
    if (rank != 0) return;
    for (size_t p = 0; p < clean.specs.size(); ++p) {
      const float* home = replica.Home(int(p));
      weights[p].assign(home, home + Elements(clean.specs[p]));
    }
  });
  EXPECT_EQ(weights, expected.weights);
}

TEST(RefusalsTest, ARefusedStepLeavesWeightsStateAndCountersUntouched) {
  TrainingCase absent = Ranks(2);
  absent.edit = [](int param, int, int rank, std::vector<float>*) {
    return !(param == 2 && rank == 1);
  };
  TrainingCase nan = Ranks(2);
  nan.edit = [](int p, int, int rank, std::vector<float>* gradient) {
    if (p == 1 && rank == 0) (*gradient)[3] = NAN;
    return true;
  };
  for (int stage : {1, 2}) {
    OptimizerOptions options = ExactOptions();
    options.stage = stage;
    ExpectRefusedStepLeavesNoTrace(options, absent, /*is_error=*/true);
    ExpectRefusedStepLeavesNoTrace(options, nan, /*is_error=*/true);
    options.non_finite = NonFiniteGradients::kSkip;
    ExpectRefusedStepLeavesNoTrace(options, nan, /*is_error=*/false);
  }
}

TEST(RefusalsTest, AGradientGivenTwiceIsRefusedAtOnce) {
  const TrainingCase c = Ranks(1);
  Replica replica(c.specs);
  auto self = MakeSelf();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(c.options, replica.specs(), *self));
  std::vector<float> gradient(200, 1.0f);
  ASSERT_OK(optimizer->GradReady(1, gradient.data()));
  EXPECT_THAT(optimizer->GradReady(1, gradient.data()),
              StatusIs(kPrecondition, HasSubstr("'layer0.wq'")));
  EXPECT_THAT(optimizer->GradReady(37, gradient.data()),
              StatusIs(kInvalid, HasSubstr("frozen")));
  EXPECT_THAT(optimizer->GradReady(99, gradient.data()),
              StatusIs(kInvalid, HasSubstr("no parameter 99")));
  EXPECT_THAT(optimizer->GradReady(2, nullptr),
              StatusIs(kInvalid, HasSubstr("is null")));
}

TEST(RefusalsTest, ABrokenGroupIsReportedByEveryLaterCall) {
  RunRanks(2, [&](int rank, Communicator& group) {
    const TrainingCase c = Ranks(2);
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    if (rank == 1) group.Abort(absl::AbortedError("rank 1 gave up"));
    (void)GiveGradients(c, *optimizer, 1, rank);
    EXPECT_THAT(optimizer->Step({0.01}).status().ToString(),
                HasSubstr("rank 1 gave up"));
    EXPECT_THAT(optimizer->Step({0.01}).status().ToString(),
                HasSubstr("rank 1 gave up"));
  });
}

}  // namespace
}  // namespace zeromini
