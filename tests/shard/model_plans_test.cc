// What plans of known models must reach.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

using ::testing::IsEmpty;
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

class Llama2PaddingTest : public testing::Test {
 protected:
  void SetUp() override {
    ASSERT_OK_AND_ASSIGN(preset_, FindPreset("llama-2-7b"));
    options_.model = preset_.shape;
  }
  Plan PlanAt(int ranks) {
    options_.ranks = ranks;
    absl::StatusOr<Plan> plan = MakePlan(preset_.params, options_);
    EXPECT_OK(plan);
    return *std::move(plan);
  }
  static constexpr int64_t kLayerElements = 202383360;
  ModelPreset preset_;
  PlanOptions options_;
};

TEST_F(Llama2PaddingTest, IsWithinAQuarterPercentAtPowersOfTwo) {
  for (int stage : {1, 3}) {
    options_.stage = stage;
    for (int ranks : {8, 16, 32, 64, 128, 256}) {
      const Plan plan = PlanAt(ranks);
      EXPECT_LE(plan.PaddingFraction(), 0.0026) << ranks;
      EXPECT_THAT(plan.split_blocks, IsEmpty());
      // At stage 3 the last norm is no part of a layer, which is released.
      EXPECT_THAT(plan.buckets, SizeIs(stage == 3 ? 35 : 34)) << ranks;
    }
  }
}

TEST_F(Llama2PaddingTest, IsSmallerWhereRowsOfTwoSizesFillSegments) {
  EXPECT_LE(PlanAt(256).PaddingFraction(), 0.0005);
  EXPECT_LE(PlanAt(512).PaddingFraction(), 0.001);
}

TEST_F(Llama2PaddingTest, IsWithinOnePercentAtEveryRankCount) {
  for (int ranks = 1; ranks <= 512; ++ranks) {
    const Plan plan = PlanAt(ranks);
    EXPECT_LE(plan.PaddingFraction(), 0.0102) << ranks;
    EXPECT_THAT(plan.split_blocks, IsEmpty()) << ranks;
    for (const BucketPlan& bucket : plan.buckets) {
      // The final norm rides with the last layer.
      EXPECT_LE(bucket.elements, 2 * kLayerElements + 4096) << ranks;
    }
  }
}

}  // namespace
}  // namespace zeromini
