// Bytes by the plan alone; tests/ranks/bytes_test.cc compares them with what
// the runtime counts.

#include "zeromini/plan_bytes.h"

#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"

namespace zeromini {
namespace {

struct Planned {
  OptimizerOptions options;
  Plan plan;
};

Planned PlanOf(const char* model, OptimizerOptions options, int ranks) {
  Planned planned;
  planned.options = options;
  const absl::StatusOr<ModelPreset> preset = FindPreset(model);
  EXPECT_OK(preset.status());
  PlanOptions plan_options;
  plan_options.algorithm = options.algorithm;
  plan_options.ranks = ranks;
  plan_options.stage = options.stage;
  plan_options.memory = options.memory;
  plan_options.model = preset->shape;
  absl::StatusOr<Plan> plan = MakePlan(preset->params, plan_options);
  EXPECT_OK(plan.status());
  planned.plan = *std::move(plan);
  return planned;
}

OptimizerOptions Flat(int stage, Algorithm algorithm) {
  OptimizerOptions options;
  options.algorithm = algorithm;
  options.stage = stage;
  options.memory = MemoryForm::kFlat;
  return options;
}

TEST(PlanBytesTest, NoRankHoldsMoreStateThanTheLargest) {
  for (Algorithm algorithm : {Algorithm::kAdamMini, Algorithm::kAdamW}) {
    for (int ranks : {3, 7, 64}) {
      const auto [options, plan] = PlanOf("gpt2", Flat(1, algorithm), ranks);
      const int largest = LargestRank(plan, options);
      const int64_t most = MemoryOf(plan, options, largest).state();
      for (int rank = 0; rank < ranks; ++rank) {
        const int64_t state = MemoryOf(plan, options, rank).state();
        EXPECT_LE(state, most) << "rank " << rank << " of " << ranks;
        EXPECT_FALSE(rank < largest && state == most) << "not the lowest";
      }
    }
  }
}

// Payload is equal; what differs is padding, and the words of split blocks.
TEST(PlanBytesTest, AStepOfAdamMiniSendsThePayloadOfAdamW) {
  for (int stage : {1, 2, 3}) {
    const auto [mini_options, mini] =
        PlanOf("gpt2", Flat(stage, Algorithm::kAdamMini), 8);
    const auto [adamw_options, adamw] =
        PlanOf("gpt2", Flat(stage, Algorithm::kAdamW), 8);
    const StepBytes a = StepBytesOf(mini, mini_options, 0);
    const StepBytes b = StepBytesOf(adamw, adamw_options, 0);
    EXPECT_NEAR(double(a.gradients.bytes - a.gradients.padding_bytes),
                double(b.gradients.bytes - b.gradients.padding_bytes), 1000);
    EXPECT_NEAR(double(a.weights.bytes - a.weights.padding_bytes),
                double(b.weights.bytes - b.weights.padding_bytes), 1000);
  }
}

TEST(PlanBytesTest, OneRankSendsNothing) {
  const auto [options, plan] = PlanOf("gpt2", Flat(1, Algorithm::kAdamMini), 1);
  const StepBytes bytes = StepBytesOf(plan, options, 0);
  EXPECT_EQ(bytes.gradients.bytes, 0);
  EXPECT_EQ(bytes.weights.bytes, 0);
  EXPECT_EQ(bytes.scalars.bytes, 0);
}

// What a gather holds is bounded by its budget, and so is the peak.
TEST(PlanBytesTest, GatheredWeightsStayWithinTheirBudget) {
  auto [options, plan] = PlanOf("gpt2", Flat(3, Algorithm::kAdamMini), 4);
  const MemoryReport free = MemoryOf(plan, options, 0);
  int64_t largest = 0;
  for (const BucketPlan& bucket : plan.buckets) {
    largest = std::max(largest, GatherBytes(plan, bucket.layer_set));
  }
  options.gather_budget_bytes =
      GatherBytes(plan, kNoLayerSet) + GatherBytes(plan, 0);
  ASSERT_LE(largest, options.gather_budget_bytes);
  const MemoryReport bound = MemoryOf(plan, options, 0);
  EXPECT_LE(bound.gathered, options.gather_budget_bytes);
  EXPECT_LT(bound.gathered, free.gathered);
  EXPECT_LT(bound.peak, free.peak);
}

}  // namespace
}  // namespace zeromini
