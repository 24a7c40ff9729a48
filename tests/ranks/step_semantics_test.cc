// What a step means: presence, ties, frozen tensors, groups, counters, bytes.

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

// The last but one and the last of EveryKindOfParam().
const int kFrozen = static_cast<int>(EveryKindOfParam().size()) - 2;
const int kTied = kFrozen + 1;

TrainingCase Skipping(int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.absent_gradients = AbsentGradients::kSkip;
  c.ranks = ranks;
  return c;
}

TEST(StepSemanticsTest, AGradientAbsentEverywhereFreezesItsParameter) {
  TrainingCase c = Skipping(3);
  c.edit = [](int param, int step, int, std::vector<float>*) {
    return param != 3 || step == 2;
  };
  const TrainingResult got = Train(c);
  EXPECT_EQ(got.states[3].steps, 1);
  EXPECT_EQ(got.states[2].steps, 4);
  TrainingCase never = c;
  never.edit = [](int param, int, int, std::vector<float>*) {
    return param != 3;
  };
  const TrainingResult still = Train(never);
  for (int64_t i = 0; i < 64; ++i) {
    EXPECT_EQ(still.weights[3][i], InitialWeight(3, i));  // No decay either.
  }
}

TEST(StepSemanticsTest, AGradientPresentOnOneRankCountsAsZeroOnTheOthers) {
  TrainingCase absent = Skipping(3);
  absent.edit = [](int param, int, int rank, std::vector<float>*) {
    return param != 2 || rank == 1;
  };
  TrainingCase zero = Skipping(3);
  zero.edit = [](int param, int, int rank, std::vector<float>* gradient) {
    if (param == 2 && rank != 1) {
      std::fill(gradient->begin(), gradient->end(), 0.0f);
    }
    return true;
  };
  for (int stage : {1, 2}) {
    absent.options.stage = stage;
    zero.options.stage = stage;
    ExpectSameTraining(zero, Train(absent), Train(zero));
  }
}

TEST(StepSemanticsTest, AMicroStepWithoutAGradientStillExchangesInOrder) {
  for (int stage : {1, 2}) {
    TrainingCase c = Skipping(2);
    c.options.micro_steps = 2;
    c.options.stage = stage;
    std::vector<int> given(2, 0);
    // Rank 0 leaves the gradient out of its first micro-step only.
    c.edit = [&given](int param, int, int rank, std::vector<float>*) {
      return !(param == 6 && rank == 0 && given[0]++ % 2 == 0);
    };
    TrainingCase halved = Skipping(2);
    halved.edit = [](int param, int, int rank, std::vector<float>* gradient) {
      const float factor = param == 6 && rank == 0 ? 1 : 2;
      for (float& g : *gradient) g *= factor;
      return true;
    };
    ExpectSameTraining(c, Train(c), Train(halved));
  }
}

TEST(StepSemanticsTest, FrozenParametersNeverChange) {
  const TrainingResult got = Train(Skipping(2));
  for (int64_t i = 0; i < 12; ++i) {
    EXPECT_EQ(got.weights[kFrozen][i], InitialWeight(kFrozen, i));
  }
}

TEST(StepSemanticsTest, ATiedGradientIsAddedToItsOwnersAndCountedOnce) {
  TrainingCase tied = Skipping(2);
  TrainingCase summed = Skipping(2);
  summed.edit = [&](int param, int step, int rank,
                    std::vector<float>* gradient) {
    if (param == kTied) std::fill(gradient->begin(), gradient->end(), 0.0f);
    if (param != 0) return true;
    for (size_t i = 0; i < gradient->size(); ++i) {
      (*gradient)[i] += GradientPart(kTied, int64_t(i), step, rank, 2);
    }
    return true;
  };
  const TrainingResult a = Train(tied);
  const TrainingResult b = Train(summed);
  ExpectSameTraining(tied, a, b);
  EXPECT_EQ(a.norms, b.norms);
  EXPECT_EQ(a.weights[0], a.weights[kTied]);
}

TEST(StepSemanticsTest, GroupsHaveTheirOwnRatesAndDecay) {
  TrainingCase c = Skipping(2);
  c.options.hyper_groups.push_back(HyperGroup());
  c.options.hyper_groups[1].learning_rate_scale = 0;
  for (ParamSpec& spec : c.specs) spec.hyper_group = spec.layer == 1 ? 1 : 0;
  const TrainingResult got = Train(c);
  for (size_t p = 0; p < c.specs.size(); ++p) {
    const bool moved = got.weights[p][0] != InitialWeight(int(p), 0);
    EXPECT_EQ(moved, c.specs[p].layer != 1 && !c.specs[p].frozen)
        << c.specs[p].name;
  }
}

TEST(StepSemanticsTest, NormsAndBiasesDecayOnlyIfAsked) {
  // With no gradient to speak of, all that is left of a step is the decay.
  TrainingCase c = Skipping(1);
  c.steps = 1;
  c.specs = {Spec("w", {4, 4}, BlockRule::Rows(), 0),
             Spec("model.norm.weight", {4}, BlockRule(), 0),
             Spec("fc.bias", {4}, BlockRule(), 0)};
  c.edit = [](int, int, int, std::vector<float>* gradient) {
    std::fill(gradient->begin(), gradient->end(), 0.0f);
    return true;
  };
  const float decayed = InitialWeight(1, 0) * float(1 - 0.01 * 0.1);
  EXPECT_EQ(Train(c).weights[1][0], InitialWeight(1, 0));
  EXPECT_NE(Train(c).weights[0][0], InitialWeight(0, 0));
  c.options.hyper_groups[0].decay_norms_and_biases = true;
  EXPECT_FLOAT_EQ(Train(c).weights[1][0], decayed);
  EXPECT_NE(Train(c).weights[2][0], InitialWeight(2, 0));
}

TEST(StepSemanticsTest, TheNormIsThatOfTheWholeGradient) {
  TrainingCase c = Skipping(4);
  c.steps = 1;
  double sum = 0;
  for (size_t p = 0; p < c.specs.size(); ++p) {
    if (c.specs[p].frozen || int(p) == kTied) continue;
    for (int64_t i = 0; i < Elements(c.specs[p]); ++i) {
      double g = GradientPart(int(p), i, 1, 0, 1);
      if (p == 0) g += GradientPart(kTied, i, 1, 0, 1);
      sum += g * g;
    }
  }
  EXPECT_NEAR(Train(c).norms[0], std::sqrt(sum), 1e-12 * std::sqrt(sum));
}

TEST(StepSemanticsTest, ClippingScalesTheWholeGradientToTheLimit) {
  TrainingCase c = Skipping(2);
  c.steps = 1;
  const TrainingResult whole = Train(c);
  c.options.max_grad_norm = whole.norms[0] / 4;
  const TrainingResult clipped = Train(c);
  EXPECT_EQ(clipped.norms, whole.norms);  // Reported before clipping.
  for (int p : {1, 3, 8}) {
    for (size_t i = 0; i < whole.states[p].momentum.size(); ++i) {
      EXPECT_NEAR(clipped.states[p].momentum[i],
                  whole.states[p].momentum[i] / 4,
                  1e-6 * std::abs(whole.states[p].momentum[i]));
    }
  }
  c.options.max_grad_norm = whole.norms[0] * 2;
  ExpectSameTraining(c, Train(c), whole);
}

using Weights = std::vector<std::vector<float>>;

// The weights after steps with the gradients of `batches`.
Weights TrainOn(const TrainingCase& c, const std::vector<int>& batches,
                const std::function<double(int batch)>& loss_scale,
                const std::function<void(const StepReport&, int batch)>& see) {
  Weights weights(c.specs.size());
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    for (int batch : batches) {
      ASSERT_OK(GiveGradients(c, *optimizer, batch, rank));
      StepOptions options;
      options.learning_rate = c.learning_rate;
      options.loss_scale = loss_scale(batch);
      ASSERT_OK_AND_ASSIGN(const StepReport report, optimizer->Step(options));
      see(report, batch);
    }
    if (rank != 0) return;
    for (size_t p = 0; p < c.specs.size(); ++p) {
      const float* home = replica.Home(int(p));
      weights[p].assign(home, home + Elements(c.specs[p]));
    }
  });
  return weights;
}

TEST(StepSemanticsTest, ALossScaleThatIsAPowerOfTwoChangesNoBit) {
  for (double clip : {0.0, 0.5}) {
    TrainingCase c = Skipping(3);
    c.options.max_grad_norm = clip;
    const TrainingResult expected = Train(c);
    c.edit = [](int, int step, int, std::vector<float>* gradient) {
      for (float& g : *gradient) g = std::ldexp(g, 8 + step);
      return true;
    };
    const Weights weights = TrainOn(
        c, {1, 2, 3, 4}, [](int batch) { return std::ldexp(1.0, 8 + batch); },
        [&](const StepReport& report, int batch) {
          EXPECT_EQ(report.grad_norm, expected.norms[batch - 1]);
        });
    EXPECT_EQ(weights, expected.weights) << "clip " << clip;
  }
}

TEST(StepSemanticsTest, ABatchWithTooLargeANormLeavesNoTraceOnAnyRank) {
  const auto no_scale = [](int) { return 1.0; };
  TrainingCase c = Skipping(3);
  c.options.non_finite = NonFiniteGradients::kIgnore;
  const Weights without =
      TrainOn(c, {1, 3, 4}, no_scale, [](const StepReport&, int) {});
  c.options.non_finite = NonFiniteGradients::kError;
  c.edit = [](int, int step, int, std::vector<float>* gradient) {
    for (float& g : *gradient) g *= step == 2 ? 4 : 1;
    return true;
  };
  c.options.max_grad_norm = 1e9;  // Only so that the norms are reported.
  const TrainingResult whole = Train(c);
  c.options.max_grad_norm = 0;
  c.options.skip_above_grad_norm = whole.norms[1] / 2;
  const Weights skipping = TrainOn(
      c, {1, 2, 3, 4}, no_scale, [&](const StepReport& report, int batch) {
        EXPECT_EQ(report.grad_norm, whole.norms[batch - 1]);
        EXPECT_EQ(report.skipped, batch == 2);
        EXPECT_FALSE(report.not_finite);
        EXPECT_EQ(report.step, batch == 1 ? 1 : batch - 1);
        EXPECT_EQ(report.skipped_because.empty(), batch != 2);
      });
  EXPECT_EQ(skipping, without);
}

TEST(StepSemanticsTest, GradientsMayComeInAnyOrderFromAnyThread) {
  const TrainingCase c = Skipping(3);
  const TrainingResult expected = Train(c);
  std::vector<float> got;
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    std::mt19937 rng(rank);
    for (int step = 1; step <= c.steps; ++step) {
      std::vector<int> order;
      for (int p = 0; p < int(c.specs.size()); ++p) {
        if (!c.specs[p].frozen) order.push_back(p);
      }
      std::shuffle(order.begin(), order.end(), rng);
      auto give = [&](size_t begin) {
        for (size_t k = begin; k < order.size(); k += 2) {
          const int p = order[k];
          std::vector<float> gradient(Elements(c.specs[p]));
          for (size_t i = 0; i < gradient.size(); ++i) {
            gradient[i] = GradientPart(p, int64_t(i), step, rank, c.ranks);
          }
          EXPECT_OK(optimizer->GradReady(p, gradient.data()));
        }
      };
      std::thread other(give, 1);
      give(0);
      other.join();
      ASSERT_OK(optimizer->Step({c.learning_rate}));
    }
    if (rank == 0) got.assign(replica.Home(1), replica.Home(1) + 128);
  });
  EXPECT_EQ(got, expected.weights[1]);
}

TEST(StepSemanticsTest, AStepThatDoesNotWaitIsFinishedByWaitParam) {
  const TrainingCase c = Skipping(3);
  const TrainingResult expected = Train(c);
  for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
    RunRanks(c.ranks, [&](int rank, Communicator& group) {
      OptimizerOptions options = c.options;
      options.memory = memory;
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeOptimizer(options, replica.specs(), group));
      const bool flat = memory == MemoryForm::kFlat;
      for (int p = 0; flat && p < 26; ++p) {
        replica.Fill(p, optimizer->ParamData(p));
      }
      for (int step = 1; step <= c.steps; ++step) {
        ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
        StepOptions step_options;
        step_options.learning_rate = c.learning_rate;
        step_options.wait = false;
        ASSERT_OK(optimizer->Step(step_options));
      }
      for (int p = 0; p < 26; ++p) {
        ASSERT_OK(optimizer->WaitParam(p));
        const void* data = flat ? optimizer->ParamData(p) : replica.Data(p);
        EXPECT_EQ(FromBytes(data, Elements(c.specs[p]), DType::kFloat32),
                  expected.weights[p])
            << c.specs[p].name;
      }
    });
  }
}

// Of step 1, of which rank 1's gradients are NaN, without waiting.
void ExpectPending(const TrainingCase& c, bool pending) {
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    StepOptions options;
    options.learning_rate = c.learning_rate;
    options.wait = false;
    ASSERT_OK_AND_ASSIGN(const StepReport report, optimizer->Step(options));
    EXPECT_EQ(report.pending, pending);
    EXPECT_GT(report.traffic[0].bytes, 0);
    EXPECT_FALSE(pending && report.skipped);
    ASSERT_OK(optimizer->WaitAll());
    const StepReport last = optimizer->LastReport();
    EXPECT_FALSE(last.pending);
    const bool skips = c.options.non_finite == NonFiniteGradients::kSkip;
    EXPECT_EQ(last.not_finite, skips);
    EXPECT_EQ(last.step, skips ? 0 : 1);
    EXPECT_EQ(last.traffic[0].bytes, report.traffic[0].bytes);
  });
}

TEST(StepSemanticsTest, AReportIsPendingOnlyIfNoPolicyIsToTellAtOnce) {
  TrainingCase c = Skipping(2);
  c.edit = [](int, int, int rank, std::vector<float>* gradient) {
    if (rank == 1) (*gradient)[0] = std::numeric_limits<float>::quiet_NaN();
    return true;
  };
  c.options.non_finite = NonFiniteGradients::kSkip;
  ExpectPending(c, true);
  c.options.non_finite = NonFiniteGradients::kIgnore;
  ExpectPending(c, true);
  c.options.absent_gradients = AbsentGradients::kError;
  ExpectPending(c, false);
}

TEST(StepSemanticsTest, ARefusedStepsTrafficIsInTheNextReport) {
  TrainingCase c = Skipping(2);
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    StepOptions options;
    options.learning_rate = c.learning_rate;
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    ASSERT_OK_AND_ASSIGN(const StepReport first, optimizer->Step(options));
    ASSERT_OK(GiveGradients(c, *optimizer, 2, rank));
    ASSERT_FALSE(optimizer->Step(StepOptions()).ok());
    EXPECT_EQ(optimizer->LastReport().step, 1);
    ASSERT_OK(GiveGradients(c, *optimizer, 2, rank));
    ASSERT_OK_AND_ASSIGN(const StepReport next, optimizer->Step(options));
    EXPECT_EQ(next.traffic[0].bytes, 2 * first.traffic[0].bytes);
    EXPECT_EQ(next.traffic[1].bytes, first.traffic[1].bytes);
  });
}

TEST(StepSemanticsTest, StateBytesAreCountedAndHalvedByAdamMini) {
  std::vector<ParamSpec> specs = {Spec("w", {64, 256}, BlockRule::Rows(), 0)};
  for (int ranks : {1, 2, 4}) {
    RunRanks(ranks, [&](int, Communicator& group) {
      Replica replica(specs);
      OptimizerOptions options = ExactOptions();
      ASSERT_OK_AND_ASSIGN(auto mini,
                           MakeOptimizer(options, replica.specs(), group));
      options.algorithm = Algorithm::kAdamW;
      ASSERT_OK_AND_ASSIGN(auto adamw,
                           MakeOptimizer(options, replica.specs(), group));
      EXPECT_EQ(mini->Memory().momentum, 64 * 256 * 4 / ranks);
      EXPECT_EQ(mini->Memory().second_moment, 64 * 4 / ranks);
      EXPECT_EQ(adamw->Memory().state(), 64 * 256 * 8 / ranks);
    });
  }
}

TEST(StepSemanticsTest, ExchangeBuffersDoNotGrowWithTheModel) {
  std::vector<ParamSpec> specs;
  for (int layer = 0; layer < 12; ++layer) {
    specs.push_back(
        Spec("w" + std::to_string(layer), {64, 256}, BlockRule::Rows(), layer));
  }
  constexpr int64_t kBucket = 64 * 256 * 4;
  TrainingCase c;
  c.options = ExactOptions();
  c.options.bucket_bytes = kBucket;
  c.specs = specs;
  c.ranks = 2;
  for (int stage : {1, 2}) {
    c.options.stage = stage;
    RunRanks(2, [&](int rank, Communicator& group) {
      Replica replica(specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeOptimizer(c.options, replica.specs(), group));
      for (int step = 1; step <= 3; ++step) {
        ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
        ASSERT_OK(optimizer->Step({0.01}));
      }
      EXPECT_EQ(optimizer->Memory().buckets, 2 * kBucket);
      EXPECT_EQ(optimizer->Memory().gradients, 12 * kBucket / 2);
    });
  }
}

TEST(StepSemanticsTest, AStepSendsWhatTheFormulaSays) {
  std::vector<ParamSpec> specs = {Spec("w", {64, 256}, BlockRule::Rows(), 0)};
  for (Algorithm algorithm : {Algorithm::kAdamMini, Algorithm::kAdamW}) {
    for (int stage : {1, 2}) {
      TrainingCase c;
      c.options = ExactOptions();
      c.options.algorithm = algorithm;
      c.options.stage = stage;
      c.options.micro_steps = 3;
      c.specs = specs;
      c.ranks = 4;
      RunRanks(4, [&](int rank, Communicator& group) {
        Replica replica(specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
        ASSERT_OK_AND_ASSIGN(StepReport report, optimizer->Step({0.01}));
        const int64_t sent = 3 * 64 * 256 * 4 / 4;
        EXPECT_EQ(report.traffic[int(Purpose::kGradients)].bytes,
                  sent * (stage == 2 ? 3 : 1));
        EXPECT_EQ(report.traffic[int(Purpose::kWeights)].bytes, sent);
        EXPECT_EQ(report.traffic[int(Purpose::kState)].bytes, 0);
        EXPECT_EQ(report.traffic[int(Purpose::kScalars)].calls, 1);
      });
    }
  }
}

TEST(StepSemanticsTest, BroadcastParamsMakesEveryRankLikeRankZero) {
  RunRanks(3, [&](int rank, Communicator& group) {
    std::vector<ParamSpec> specs = EveryKindOfParam();
    Replica replica(specs);
    for (size_t p = 0; p < specs.size(); ++p) replica.Home(int(p))[0] += rank;
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(ExactOptions(), replica.specs(), group));
    ASSERT_OK(optimizer->BroadcastParams());
    for (size_t p = 0; p + 1 < specs.size(); ++p) {
      EXPECT_EQ(replica.Home(int(p))[0], InitialWeight(int(p), 0));
    }
  });
}

}  // namespace
}  // namespace zeromini
