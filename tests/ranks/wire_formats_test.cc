// What gradients and weights travel as, and what that does to training.

#include <cmath>
#include <cstring>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"
#include "support/watched_communicator.h"

namespace zeromini {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

float Rounded(float value) {  // To bf16, nearest even.
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  std::memcpy(&value, &bits, sizeof(bits));
  return value;
}

TrainingCase Case(int ranks, DType gradient_wire, DType weight_wire) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.max_grad_norm = 0.5;
  c.options.gradient_wire = gradient_wire;
  c.options.weight_wire = weight_wire;
  c.ranks = ranks;
  return c;
}

TrainingCase RoundedWeights(int ranks) {
  return Case(ranks, DType::kFloat32, DType::kBFloat16);
}

// Every trained weight of `exact` rounded; the frozen ones as they are.
TrainingResult WithRoundedWeights(const TrainingCase& c, TrainingResult exact) {
  for (size_t p = 0; p < c.specs.size(); ++p) {
    if (c.specs[p].frozen) continue;
    for (float& weight : exact.weights[p]) weight = Rounded(weight);
  }
  return exact;
}

class RoundedWeightsTest : public testing::TestWithParam<
                               std::tuple<Algorithm, int, int, MemoryForm>> {
 protected:
  TrainingCase Many() const {
    const auto [algorithm, ranks, stage, memory] = GetParam();
    TrainingCase c = RoundedWeights(ranks);
    c.options.algorithm = algorithm;
    c.options.stage = stage;
    c.options.memory = memory;
    return c;
  }
};

// So N ranks are one rank, no update is lost to the rounding, and the state
// never sees it.
TEST_P(RoundedWeightsTest, AreThoseOfAnFp32RunOnOneRankRoundedOnce) {
  const TrainingCase many = Many();
  TrainingCase one = Case(1, DType::kFloat32, DType::kFloat32);
  one.options.algorithm = many.options.algorithm;
  const TrainingResult expected = WithRoundedWeights(one, Train(one));
  ExpectSameTraining(many, Train(many), expected);
  one.options.weight_wire = DType::kBFloat16;
  ExpectSameTraining(many, Train(one), expected);
}

// The last parameters of layer 1 never get a gradient; all of layer 2 neither.
TEST_P(RoundedWeightsTest, OfAParameterWithoutGradientAreTheInitialOnes) {
  TrainingCase many = Many();
  many.options.absent_gradients = AbsentGradients::kSkip;
  const auto absent = [&many](int p) {
    return many.specs[p].layer == 2 || many.specs[p].name == "layer1.norm" ||
           many.specs[p].name == "layer1.columns";
  };
  many.edit = [&absent](int p, int, int, std::vector<float>*) {
    return !absent(p);
  };
  const TrainingResult result = Train(many);
  for (int p = 0; p < int(many.specs.size()); ++p) {
    for (size_t i = 0; absent(p) && i < result.weights[p].size(); ++i) {
      ASSERT_EQ(result.weights[p][i], Rounded(InitialWeight(p, int64_t(i))))
          << many.specs[p].name << ", element " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(
    All, RoundedWeightsTest,
    testing::Combine(testing::Values(Algorithm::kAdamMini, Algorithm::kAdamW),
                     testing::Values(1, 2, 3, 5, 8), testing::Values(1, 2),
                     testing::Values(MemoryForm::kExternal,
                                     MemoryForm::kFlat)));

// One matrix on `group`, trained by a constant gradient.
class Matrix {
 public:
  Matrix(const OptimizerOptions& options, Communicator& group, float initial)
      : weights_(TestTensor(kElements * int64_t{sizeof(float)})),
        gradient_(kElements, 1.0f) {
    std::fill(weights().begin(), weights().end(), initial);
    std::vector<ParamSpec> specs = {
        Spec("matrix", {kRows, 8}, BlockRule::Rows(), 0)};
    specs[0].data = weights_.get();
    auto optimizer = MakeOptimizer(options, specs, group);
    EXPECT_OK(optimizer.status());
    if (optimizer.ok()) optimizer_ = *std::move(optimizer);
  }

  StepReport Step(double learning_rate) {
    EXPECT_OK(optimizer_->GradReady(0, gradient_.data()));
    auto report = optimizer_->Step({learning_rate});
    EXPECT_OK(report.status());
    return report.ok() ? *report : StepReport();
  }

  Optimizer& optimizer() { return *optimizer_; }
  absl::Span<float> weights() {
    return absl::MakeSpan(static_cast<float*>(weights_.get()), kElements);
  }

  static constexpr int64_t kRows = 25;
  static constexpr int64_t kElements = kRows * 8;

 private:
  const std::shared_ptr<void> weights_;
  const std::vector<float> gradient_;
  std::unique_ptr<Optimizer> optimizer_;
};

OptimizerOptions WithoutDecay(DType gradient_wire, DType weight_wire) {
  OptimizerOptions options;
  options.hyper_groups[0].weight_decay = 0;
  options.gradient_wire = gradient_wire;
  options.weight_wire = weight_wire;
  return options;
}

TEST(MasterWeightsTest, KeepUpdatesFarBelowHalfAnUlpOfTheWeights) {
  RunRanks(3, [](int, Communicator& group) {
    // Half an ulp of bf16 below 1 is 2^-9, about 2e-3; a step is 1e-5.
    Matrix matrix(WithoutDecay(DType::kFloat32, DType::kBFloat16), group, 1.0f);
    for (int step = 1; step <= 100; ++step) matrix.Step(1e-5);
    EXPECT_EQ(matrix.weights(), std::vector<float>(Matrix::kElements, 1.0f))
        << "1e-3 does not show yet";
    for (int step = 1; step <= 300; ++step) matrix.Step(1e-5);
    EXPECT_EQ(matrix.weights(),
              std::vector<float>(Matrix::kElements, 1.0f - 1.0f / 256))
        << "4e-3 does";
  });
}

TEST(MasterWeightsTest, AreTakenFromTheWeightsAgainAfterABroadcastOnly) {
  RunRanks(2, [](int rank, Communicator& group) {
    Matrix matrix(WithoutDecay(DType::kFloat32, DType::kBFloat16), group, 1.0f);
    matrix.Step(0);
    std::fill(matrix.weights().begin(), matrix.weights().end(), 5.0f);
    matrix.Step(0);
    EXPECT_EQ(matrix.weights(), std::vector<float>(Matrix::kElements, 1.0f));
    std::fill(matrix.weights().begin(), matrix.weights().end(),
              rank == 0 ? 7.0f : 9.0f);
    ASSERT_OK(matrix.optimizer().BroadcastParams());
    matrix.Step(0);
    EXPECT_EQ(matrix.weights(), std::vector<float>(Matrix::kElements, 7.0f));
  });
}

TEST(MasterWeightsTest, TakeFourBytesOfEveryOwnedElementAndItsPadding) {
  for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
    TrainingCase c = RoundedWeights(3);
    c.options.memory = memory;
    RunRanks(3, [&c](int, Communicator& group) {
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeOptimizer(c.options, replica.specs(), group));
      int64_t owned = 0;
      for (const BucketPlan& bucket : optimizer->plan().buckets) {
        owned += bucket.segment;
      }
      const MemoryReport report = optimizer->Memory();
      EXPECT_EQ(report.master, 4 * owned);
      EXPECT_GE(report.peak, report.total());
      OptimizerOptions exact = c.options;
      exact.weight_wire = DType::kFloat32;
      ASSERT_OK_AND_ASSIGN(auto without,
                           MakeOptimizer(exact, replica.specs(), group));
      EXPECT_EQ(without->Memory().master, 0);
      EXPECT_EQ(report.state(), without->Memory().state() + report.master);
    });
  }
}

class RoundedGradientsTest
    : public testing::TestWithParam<std::tuple<int, int, MemoryForm>> {};

// Momentum after one step is (1 - beta1) times the reduced gradient.
TEST_P(RoundedGradientsTest, StayWithinTheirBoundOfTheExactSum) {
  const auto [ranks, stage, memory] = GetParam();
  TrainingCase exact = Case(ranks, DType::kFloat32, DType::kFloat32);
  exact.options.max_grad_norm = 0;
  exact.options.stage = stage;
  exact.options.memory = memory;
  exact.steps = 1;
  TrainingCase rounded = exact;
  rounded.options.gradient_wire = DType::kBFloat16;
  const TrainingResult expected = Train(exact);
  const TrainingResult got = Train(rounded);
  int64_t differ = 0;
  for (int p = 0; p < int(exact.specs.size()); ++p) {
    for (size_t i = 0; i < got.states[p].momentum.size(); ++i) {
      double magnitude = 0;
      for (int r = 0; r < ranks; ++r) {
        magnitude += std::abs(GradientPart(p, int64_t(i), 1, r, ranks));
        // The embedding's gradient has the head's in it.
        if (p == 0) {
          const int head = int(exact.specs.size()) - 1;
          magnitude += std::abs(GradientPart(head, int64_t(i), 1, r, ranks));
        }
      }
      const double error = std::abs(double{got.states[p].momentum[i]} -
                                    double{expected.states[p].momentum[i]});
      ASSERT_LE(error, 0.1 * magnitude * (1.0 / 256 + 1e-6))
          << exact.specs[p].name << ", element " << i;
      differ += error > 0;
    }
  }
  EXPECT_EQ(differ > 0, ranks > 1) << "one rank has nothing to round";
}

INSTANTIATE_TEST_SUITE_P(All, RoundedGradientsTest,
                         testing::Combine(testing::Values(1, 2, 3, 5, 8),
                                          testing::Values(1, 2),
                                          testing::Values(MemoryForm::kExternal,
                                                          MemoryForm::kFlat)));

// Bytes and level bytes of one step, gradients first.
std::vector<TrafficCount> TrafficOf(Communicator& group, DType gradient_wire,
                                    DType weight_wire) {
  Matrix matrix(WithoutDecay(gradient_wire, weight_wire), group, 1.0f);
  const Traffic traffic = matrix.Step(0.1).traffic;
  return {traffic[int(Purpose::kGradients)], traffic[int(Purpose::kWeights)]};
}

TEST(WireTrafficTest, ADirectionThatTravelsAsBFloat16TakesHalfTheBytes) {
  constexpr DType kExact = DType::kFloat32;
  constexpr DType kHalf = DType::kBFloat16;
  RunRanks(3, [](int, Communicator& group) {
    const auto exact = TrafficOf(group, kExact, kExact);
    const auto gradients = TrafficOf(group, kHalf, kExact);
    const auto weights = TrafficOf(group, kExact, kHalf);
    EXPECT_EQ(exact[0].bytes, 2 * 9 * 8 * 4) << "9 rows of 25, for 2 peers";
    EXPECT_EQ(2 * gradients[0].bytes, exact[0].bytes);
    EXPECT_EQ(gradients[1].bytes, exact[1].bytes);
    EXPECT_EQ(weights[0].bytes, exact[0].bytes);
    EXPECT_EQ(2 * weights[1].bytes, exact[1].bytes);
    EXPECT_EQ(2 * weights[1].padding_bytes, exact[1].padding_bytes);
    for (const auto& counts : {exact, gradients, weights}) {
      for (const TrafficCount& count : counts) {
        EXPECT_EQ(count.inside_host_bytes, count.bytes);
        EXPECT_EQ(count.between_hosts_bytes, 0);
      }
    }
  });
}

TEST(WireTrafficTest, EveryExchangeOfAnOptimizerCarriesTheHashOfItsPlan) {
  RunRanks(2, [](int rank, Communicator& group) {
    std::vector<Exchange> exchanges;
    WatchedCommunicator watched(group, [&exchanges](const Exchange& exchange) {
      exchanges.push_back(exchange);
    });
    const TrainingCase c = RoundedWeights(2);
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), watched));
    ASSERT_OK(optimizer->BroadcastParams());
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    ASSERT_OK(optimizer->Step({0.1}));
    ASSERT_OK(optimizer->ConsolidatedState(0));
    std::vector<int> seen(kPurposes, 0);
    for (const Exchange& exchange : exchanges) {
      ++seen[int(exchange.purpose)];
      if (exchange.purpose == Purpose::kControl) continue;  // Before the plan.
      EXPECT_EQ(exchange.plan, optimizer->plan().hash)
          << PurposeName(exchange.purpose) << ", bucket " << exchange.bucket;
    }
    EXPECT_THAT(seen, testing::Each(testing::Gt(0)));
    EXPECT_NE(optimizer->plan().hash, 0u);
  });
}

TEST(WireRefusalsTest, AnyFormatButFp32AndBFloat16IsNamedOnEveryRank) {
  RunRanks(2, [](int rank, Communicator& group) {
    TrainingCase c = RoundedWeights(2);
    Replica replica(c.specs);
    if (rank == 1) c.options.gradient_wire = DType::kFloat16;
    EXPECT_THAT(MakeOptimizer(c.options, replica.specs(), group),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("rank 1: gradient_wire"),
                               HasSubstr("got fp16"))));
    c = RoundedWeights(2);
    if (rank == 0) c.options.weight_wire = DType::kInt64;
    EXPECT_THAT(MakeOptimizer(c.options, replica.specs(), group),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("rank 0: weight_wire"),
                               HasSubstr("got int64"))));
  });
}

TEST(WireRefusalsTest, RanksThatChooseDifferentFormatsAreNamed) {
  for (bool gradients : {false, true}) {
    RunRanks(3, [gradients](int rank, Communicator& group) {
      TrainingCase c = Case(3, DType::kFloat32, DType::kFloat32);
      Replica replica(c.specs);
      DType& wire = gradients ? c.options.gradient_wire : c.options.weight_wire;
      if (rank == 2) wire = DType::kBFloat16;
      EXPECT_THAT(MakeOptimizer(c.options, replica.specs(), group),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           HasSubstr("rank 2 has the same parameters as rank 0 "
                                     "but other optimizer options")));
    });
  }
}

}  // namespace
}  // namespace zeromini
