// What plans of known models must reach.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "shard/exchange_buffers.h"
#include "tests/support/status_matchers.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

int64_t TotalElements(const ModelPreset& preset) {
  int64_t total = 0;
  for (const ParamSpec& spec : preset.params) {
    int64_t elements = spec.tied_to.empty() ? 1 : 0;
    for (int64_t size : spec.shape) elements *= size;
    total += elements;
  }
  return total;
}

TEST(PresetsTest, HaveThePublishedParameterCounts) {
  ASSERT_OK_AND_ASSIGN(const ModelPreset llama2, FindPreset("llama-2-7b"));
  EXPECT_EQ(TotalElements(llama2), 6738415616);
  ASSERT_OK_AND_ASSIGN(const ModelPreset llama2_13b, FindPreset("llama-2-13b"));
  EXPECT_EQ(TotalElements(llama2_13b), 13015864320);
  ASSERT_OK_AND_ASSIGN(const ModelPreset llama3, FindPreset("llama-3-8b"));
  EXPECT_EQ(TotalElements(llama3), 8030261248);
  ASSERT_OK_AND_ASSIGN(const ModelPreset llama3_70b, FindPreset("llama-3-70b"));
  EXPECT_EQ(TotalElements(llama3_70b), 70553706496);
  ASSERT_OK_AND_ASSIGN(const ModelPreset gpt2, FindPreset("gpt2"));
  EXPECT_EQ(TotalElements(gpt2), 124439808);
  ASSERT_OK_AND_ASSIGN(const ModelPreset gpt2_xl, FindPreset("gpt2-xl"));
  EXPECT_EQ(TotalElements(gpt2_xl), 1557611200);
}

TEST(PresetsTest, AreKnownToTheTablesAndCountTheBlocks) {
  for (const std::string& name : PresetNames()) {
    ASSERT_OK_AND_ASSIGN(const ModelPreset preset, FindPreset(name));
    PlanOptions options;
    options.model = preset.shape;
    options.ranks = 8;
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(preset.params, options));
    EXPECT_THAT(plan.warnings, IsEmpty()) << name;
    EXPECT_THAT(plan.split_blocks, IsEmpty()) << name;
    EXPECT_LE(plan.PaddingFraction(), 0.005) << name;
    int64_t blocks = 0;
    for (const PlannedParam& param : plan.params) blocks += param.blocks_total;
    if (name == "llama-2-7b") {
      EXPECT_EQ(blocks, 1163841);
    }
  }
}

// What the layout of a model costs in flat memory.
struct LayoutSums {
  double padding = 0;
  double copied = 0;   // Share of the bytes that are packed or unpacked.
  double weighed = 0;  // Wire, padding in, and copies at 1:8, over the payload.
  int64_t buffers = 0;
};

class ModelLayoutTest : public testing::Test {
 protected:
  Plan PlanAt(const std::string& model, int ranks) {
    absl::StatusOr<ModelPreset> preset = FindPreset(model);
    EXPECT_OK(preset);
    options_.model = preset->shape;
    options_.memory = MemoryForm::kFlat;
    options_.ranks = ranks;
    absl::StatusOr<Plan> plan = MakePlan(preset->params, options_);
    EXPECT_OK(plan);
    return *std::move(plan);
  }

  LayoutSums SumsAt(const std::string& model, int ranks) {
    const Plan plan = PlanAt(model, ranks);
    OptimizerOptions options;
    options.stage = options_.stage;
    options.memory = MemoryForm::kFlat;
    LayoutSums sums;
    sums.padding = plan.PaddingFraction();
    // At stage 1, what is in place is not copied at all.
    sums.copied = 1 - plan.InPlaceFraction();
    sums.weighed = 1 + sums.padding + sums.copied / 8;
    sums.buffers = TotalBytes(ExchangeBuffers(plan, options));
    return sums;
  }

  PlanOptions options_;
};

constexpr int64_t kMebibyte = int64_t{1} << 20;

TEST_F(ModelLayoutTest, Llama2NeedsNoBufferAndAlmostNoPaddingAtAnyRankCount) {
  for (int ranks : {1,  2,  3,   5,   7,   8,   16,  24,  32,  48,  64,  96,
                    97, 99, 100, 128, 255, 256, 384, 509, 512, 777, 1024}) {
    const LayoutSums sums = SumsAt("llama-2-7b", ranks);
    EXPECT_EQ(sums.buffers, 0) << ranks;
    EXPECT_EQ(sums.copied, 0) << ranks;
    EXPECT_LE(sums.padding, 0.0026) << ranks;
    EXPECT_THAT(PlanAt("llama-2-7b", ranks).split_blocks, IsEmpty()) << ranks;
  }
}

TEST_F(ModelLayoutTest,
       TheOtherLlamasCostAtMostAFewPercentMoreThanTheirPayload) {
  for (const char* model : {"llama-2-13b", "llama-3-8b", "llama-3-70b"}) {
    for (int ranks : {7, 8, 64, 100, 384, 512, 1024}) {
      const LayoutSums sums = SumsAt(model, ranks);
      EXPECT_LE(sums.buffers, 256 * kMebibyte) << model << " " << ranks;
      EXPECT_LE(sums.weighed, 1.01) << model << " " << ranks;
    }
  }
}

TEST_F(ModelLayoutTest, TransposedTensorsStayWithinTheBudget) {
  for (const char* model : {"gpt2", "gpt2-xl"}) {
    for (int ranks : {2, 8, 64, 512}) {
      const LayoutSums sums = SumsAt(model, ranks);
      EXPECT_LE(sums.buffers, 256 * kMebibyte) << model << " " << ranks;
      EXPECT_LE(sums.padding, 0.015) << model << " " << ranks;
    }
  }
}

TEST_F(ModelLayoutTest, TransposedTensorsInBucketsOfAnySizeAreSharedAlike) {
  for (int64_t budget : {1 << 10, 64 << 10, 1 << 20, 16 << 20}) {
    options_.buffer_budget_bytes = budget;
    for (Algorithm algorithm : {Algorithm::kAdamMini, Algorithm::kAdamW}) {
      options_.algorithm = algorithm;
      EXPECT_LE(SumsAt("gpt2", 8).padding, 0.001)
          << budget << " " << AlgorithmName(algorithm);
    }
  }
}

TEST_F(ModelLayoutTest, BuffersStayWithinTheBudgetAtStagesTwoAndThree) {
  for (int stage : {2, 3}) {
    options_.stage = stage;
    for (int ranks : {2, 8, 33, 64, 128, 512, 1024}) {
      EXPECT_LE(SumsAt("llama-2-7b", ranks).buffers, 256 * kMebibyte)
          << stage << " " << ranks;
    }
    // Of which its tied embedding is 148.
    EXPECT_LE(SumsAt("gpt2", 8).buffers, 170 * kMebibyte) << stage;
  }
}

TEST_F(ModelLayoutTest, AHeadIsCutOnlyWhereItsShareOfABufferIsLess) {
  options_.stage = 2;
  EXPECT_THAT(PlanAt("llama-2-7b", 64).split_blocks, IsEmpty());
  EXPECT_THAT(PlanAt("llama-2-7b", 65).split_blocks, SizeIs(2048));
  options_.buffer_budget_bytes = 512 * kMebibyte;
  EXPECT_THAT(PlanAt("llama-2-7b", 65).split_blocks, IsEmpty());
}

TEST_F(ModelLayoutTest, CutAtAnyRowLlama2IsLaidOutAsForAdamW) {
  options_.blocks = BlockCuts::kSplitAtCuts;
  for (int ranks : {8, 100}) {
    const Plan mini = PlanAt("llama-2-7b", ranks);
    options_.algorithm = Algorithm::kAdamW;
    const Plan adamw = PlanAt("llama-2-7b", ranks);
    options_.algorithm = Algorithm::kAdamMini;
    EXPECT_NEAR(mini.PaddingFraction(), adamw.PaddingFraction(), 1e-3);
  }
  EXPECT_THAT(PlanAt("llama-2-7b", 100).split_blocks, Not(IsEmpty()));
}

TEST_F(ModelLayoutTest, MostCanTravelBeforeBackwardReachesTheFirstLayer) {
  for (int ranks : {8, 64, 256}) {
    EXPECT_GE(PlanAt("llama-2-7b", ranks).EarlyFraction(), 0.8) << ranks;
  }
}

TEST_F(ModelLayoutTest, ByLayerCopiesThatCostNothingArePreferredToPadding) {
  options_.bucketing = Bucketing::kByLayer;
  options_.copy_cost = 0;
  const Plan plan = PlanAt("llama-2-7b", 64);
  EXPECT_THAT(plan.buckets, SizeIs(34));
  EXPECT_LT(plan.InPlaceFraction(), 0.1);
}

}  // namespace
}  // namespace zeromini
