// What exchange buffers take is known before a step, and bounded.

#include "shard/exchange_buffers.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
constexpr int64_t kLayerBytes = int64_t{64} * 256 * sizeof(float);
constexpr int kLayers = 8;
constexpr absl::Duration kDeadline = absl::Seconds(80);

// A bucket a layer.
TrainingCase EqualLayers(int stage, int ranks, int64_t budget) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = stage;
  c.options.bucket_bytes = kLayerBytes;
  c.options.buffer_budget_bytes = budget;
  c.ranks = ranks;
  c.steps = 2;
  c.group.timeout = kDeadline;
  c.specs.clear();
  for (int layer = 0; layer < kLayers; ++layer) {
    c.specs.push_back(
        Spec("w" + std::to_string(layer), {64, 256}, BlockRule::Rows(), layer));
  }
  return c;
}

// A step with gradients in the forward order, if `forward`; its first error.
absl::Status StepInOrder(const TrainingCase& c, Optimizer& optimizer,
                         bool forward) {
  const std::shared_ptr<void> gradient = TestTensor(kLayerBytes);
  for (int i = 0; i < kLayers; ++i) {
    const int param = forward ? i : kLayers - 1 - i;
    ZEROMINI_RETURN_IF_ERROR(optimizer.GradReady(param, gradient.get()));
  }
  return optimizer.Step({c.learning_rate}).status();
}

// Of the steps of all ranks; `forward` says in which order a rank gives.
std::vector<absl::Status> StepAll(const TrainingCase& c,
                                  const std::function<bool(int)>& forward) {
  const absl::Time begin = absl::Now();
  std::vector<absl::Status> results(c.ranks);
  RunRanks(
      c.ranks,
      [&](int rank, Communicator& group) {
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        results[rank] = StepInOrder(c, *optimizer, forward(rank));
        if (results[rank].ok()) {
          EXPECT_LE(optimizer->Memory().buckets, c.options.buffer_budget_bytes);
          EXPECT_OK(optimizer->Close());
        } else {
          EXPECT_THAT(optimizer->Step({0.01}),
                      StatusIs(kExhausted, HasSubstr("buffer_budget_bytes")));
        }
      },
      c.group);
  EXPECT_LT(absl::Now() - begin, kDeadline / 2);
  return results;
}

TEST(ExchangeBuffersTest, GradientsInReverseOrderFitABudgetOfThreeBuckets) {
  const TrainingCase c = EqualLayers(/*stage=*/2, /*ranks=*/2, 3 * kLayerBytes);
  for (const absl::Status& result : StepAll(c, [](int) { return false; })) {
    EXPECT_OK(result);
  }
}

TEST(ExchangeBuffersTest, InForwardOrderABudgetOfThreeIsEveryRanksError) {
  const TrainingCase c = EqualLayers(2, 2, 3 * kLayerBytes);
  for (const absl::Status& result : StepAll(c, [](int) { return true; })) {
    EXPECT_THAT(
        result,
        StatusIs(kExhausted,
                 AllOf(HasSubstr("gradients of 'w3' (bucket 3) on rank "),
                       HasSubstr("beside 196608 bytes in 3 taken"),
                       HasSubstr("buffer_budget_bytes to at least 262144"))));
  }
}

TEST(ExchangeBuffersTest, WithoutABudgetOfTheCallersMoreIsTakenAndToldOnce) {
  if (OnFakeDevice()) GTEST_SKIP() << "it has less memory than that";
  // Six buckets of 48 MiB, against 256 MiB in all.
  constexpr int64_t kRows = 48 << 10;
  constexpr int64_t kBytes = kRows * 256 * int64_t{sizeof(float)};
  TrainingCase c = EqualLayers(/*stage=*/2, /*ranks=*/1, /*budget=*/0);
  c.specs.resize(6);
  for (ParamSpec& spec : c.specs) spec.shape = {kRows, 256};
  c.options.bucketing = Bucketing::kByLayer;
  std::vector<std::string> warnings;
  c.options.log = [&](LogLevel, absl::string_view text) {
    warnings.emplace_back(text);
  };
  const std::shared_ptr<void> gradient = TestTensor(kBytes);
  Replica replica(c.specs);
  const auto self = MakeSelf();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(c.options, replica.specs(), *self));
  for (int step = 0; step < 2; ++step) {
    for (int param = 0; param < 6; ++param) {
      ASSERT_OK(optimizer->GradReady(param, gradient.get()));
    }
    ASSERT_OK(optimizer->Step({c.learning_rate}));
  }
  EXPECT_EQ(optimizer->Memory().buckets, 6 * kBytes);
  EXPECT_THAT(warnings, testing::ElementsAre(HasSubstr(
                            "exchange buffers take 301989888 bytes, more")));
}

TEST(ExchangeBuffersTest, OneRanksForwardOrderIsTheOthersErrorAtOnce) {
  const TrainingCase c = EqualLayers(2, 2, 3 * kLayerBytes);
  for (const absl::Status& result : StepAll(c, [](int r) { return r == 1; })) {
    EXPECT_THAT(result, StatusIs(kExhausted, HasSubstr("'w3' (bucket 3) on "
                                                       "rank 1")));
  }
}

TEST(ExchangeBuffersTest, InForwardOrderAllFitABudgetOfAllBuckets) {
  const TrainingCase c = EqualLayers(2, 2, kLayers * kLayerBytes);
  for (const absl::Status& result : StepAll(c, [](int) { return true; })) {
    EXPECT_OK(result);
  }
}

TEST(ExchangeBuffersTest, WithTheLeastBuffersResultsAreTheSame) {
  for (int stage : {1, 2, 3}) {
    TrainingCase c = EqualLayers(stage, 2, kNoBufferBudget);
    if (stage == 3) c.options.memory = MemoryForm::kFlat;
    const TrainingResult most = Train(c);
    c.options.buffer_budget_bytes = 1;
    EXPECT_EQ(Train(c).weights, most.weights) << "stage " << stage;
  }
}

// In every configuration, what has been taken after a step and after the next.
void ExpectThePlansBuffers(const TrainingCase& c) {
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(FillWeights(c, replica, *optimizer));
    const int64_t planned =
        TotalBytes(ExchangeBuffers(optimizer->plan(), c.options));
    for (int step = 1; step <= 2; ++step) {
      ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
      ASSERT_OK(optimizer->Step({0.01}));
      EXPECT_EQ(optimizer->Memory().buckets, planned)
          << "step " << step << " of stage " << c.options.stage << ", "
          << c.ranks << " ranks, " << c.options.micro_steps
          << " micro-steps, budget " << c.options.buffer_budget_bytes;
    }
  });
}

// Of stage and memory.
const std::pair<int, MemoryForm> kForms[] = {{1, MemoryForm::kExternal},
                                             {1, MemoryForm::kFlat},
                                             {2, MemoryForm::kExternal},
                                             {2, MemoryForm::kFlat},
                                             {3, MemoryForm::kFlat}};

TEST(ExchangeBuffersTest, AStepTakesWhatThePlanSaysToTheByte) {
  for (int ranks : {1, 2, 3}) {
    for (const auto& [stage, memory] : kForms) {
      for (int micro_steps : {1, 2}) {
        // 600: tensors in several buckets.
        for (int64_t bucket_bytes : {0, 600}) {
          for (int64_t budget : {kNoBufferBudget, int64_t{1}, int64_t{8'000}}) {
            TrainingCase c;
            c.options = ExactOptions();
            c.ranks = ranks;
            c.options.stage = stage;
            c.options.memory = memory;
            c.options.micro_steps = micro_steps;
            c.options.bucket_bytes = bucket_bytes;
            c.options.buffer_budget_bytes = budget;
            ExpectThePlansBuffers(c);
          }
        }
      }
    }
  }
}

TEST(ExchangeBuffersTest, ATensorOfManyBucketsTakesTwoBuffers) {
  TrainingCase c = EqualLayers(/*stage=*/2, /*ranks=*/2, /*budget=*/0);
  c.options.collective_cost_bytes = 0;
  c.specs = {Spec("w", {kLayers * 64, 256}, BlockRule::Rows(), 0)};
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_EQ(optimizer->plan().buckets.size(), size_t{kLayers});
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    ASSERT_OK(optimizer->Step({0.01}));
    EXPECT_EQ(optimizer->Memory().buckets, 2 * kLayerBytes);
  });
}

// Two of the small ones would leave no room for the large one.
TEST(ExchangeBuffersTest, SmallWeightsLeaveTheLargeOnesTheirBuffer) {
  TrainingCase c = EqualLayers(/*stage=*/1, /*ranks=*/2, /*budget=*/1);
  c.options.bucketing = Bucketing::kByLayer;
  c.options.bucket_bytes = 0;
  c.options.micro_steps = 2;  // Then the gradients take no buffer.
  c.specs.resize(4);
  for (size_t i = 0; i < 3; ++i) c.specs[i].shape = {400, 256};
  c.specs[3].shape = {1000, 256};
  ExpectThePlansBuffers(c);
}

TEST(ExchangeBuffersTest, SoDoesOneOfSixteenBitsOrARoundedWire) {
  for (const auto& [stage, memory] : kForms) {
    for (bool wide : {true, false}) {
      TrainingCase c;
      c.options = ExactOptions();
      c.ranks = 2;
      c.options.stage = stage;
      c.options.memory = memory;
      c.coarse = true;
      if (wide) c.options.weight_wire = DType::kBFloat16;
      for (ParamSpec& spec : c.specs) {
        if (!wide && spec.shape.size() > 1) spec.dtype = DType::kBFloat16;
      }
      ExpectThePlansBuffers(c);
    }
  }
}

}  // namespace
}  // namespace zeromini
