// Layouts: properties that every plan has.

#include "zeromini/plan.h"

#include <algorithm>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "shard/planner.h"
#include "tests/support/plan_checks.h"
#include "tests/support/plan_specs.h"
#include "tests/support/status_matchers.h"

namespace zeromini {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int kRankCounts[] = {1, 2, 3, 5, 7, 8, 13, 64};

TEST(PlanTest, OwnsEveryRowOnceInLlama2) {
  ASSERT_OK_AND_ASSIGN(const ModelPreset preset, FindPreset("llama-2-7b"));
  PlanOptions options;
  options.model = preset.shape;
  for (int ranks : {7, 386, 387}) {
    options.ranks = ranks;
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(preset.params, options));
    CheckPlan(plan);
  }
}

TEST(PlanTest, HashesEverythingThatRanksMustAgreeOn) {
  const std::vector<ParamSpec> specs = {Spec("a", {8, 4}, BlockRule::Rows()),
                                        Spec("b", {4}, BlockRule::Whole())};
  PlanOptions options;
  options.ranks = 2;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(specs, options));
  std::set<uint64_t> hashes = {plan.hash};
  std::vector<ParamSpec> other = specs;
  other[1].name = "c";
  ASSERT_OK_AND_ASSIGN(const Plan renamed, MakePlan(other, options));
  EXPECT_TRUE(hashes.insert(renamed.hash).second);
  other = specs;
  other[0].shape = {4, 8};
  ASSERT_OK_AND_ASSIGN(const Plan reshaped, MakePlan(other, options));
  EXPECT_TRUE(hashes.insert(reshaped.hash).second);
  other = specs;
  other[1].hyper_group = 1;
  ASSERT_OK_AND_ASSIGN(const Plan regrouped, MakePlan(other, options));
  EXPECT_TRUE(hashes.insert(regrouped.hash).second);
  options.stage = 2;
  ASSERT_OK_AND_ASSIGN(const Plan restaged, MakePlan(specs, options));
  EXPECT_TRUE(hashes.insert(restaged.hash).second);
}

TEST(PlanTest, NamesTheOwnerOfEachStorageAndAllThatShareIt) {
  std::vector<ParamSpec> specs;
  for (const char* name : {"a", "b", "c", "d"}) {
    specs.push_back(Spec(name, {4, 2}, BlockRule::Rows()));
  }
  specs[2].tied_to = "a";
  specs[3].tied_to = "c";
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(specs, PlanOptions()));
  EXPECT_THAT(plan.params[0].sharers, ElementsAre(0, 2, 3));
  EXPECT_THAT(plan.params[1].sharers, ElementsAre(1));
  EXPECT_THAT(plan.params[3].sharers, IsEmpty());
  EXPECT_EQ(plan.params[1].owner, 1);
  EXPECT_EQ(plan.params[2].owner, 0);
  EXPECT_EQ(plan.params[3].owner, 0);
}

TEST(PlanTest, LeavesRanksWithoutUnitsEmpty) {
  PlanOptions options;
  options.ranks = 8;
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("w", {3, 4}, BlockRule::Rows())}, options));
  CheckPlan(plan);
  EXPECT_EQ(plan.buckets[0].segment, 4);
  EXPECT_THAT(plan.buckets[0].runs[7], IsEmpty());
}

TEST(PlanTest, SplitsABlockLargerThanItsShareEvenlyAtRows) {
  PlanOptions options;
  options.ranks = 4;
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("w", {16, 4}, BlockRule::Whole())}, options));
  CheckPlan(plan);
  EXPECT_EQ(plan.buckets[0].segment, 16);
  ASSERT_THAT(plan.split_blocks, SizeIs(1));
  const std::vector<BlockSpan> spans =
      SpansOf(plan.params[0], plan.buckets[0].runs[2].at(0));
  ASSERT_THAT(spans, SizeIs(1));
  EXPECT_TRUE(spans[0].split);
  EXPECT_EQ(spans[0].first_row, 8);
  EXPECT_EQ(spans[0].rows_per_block, 4);
  EXPECT_EQ(spans[0].block_elements, 64);
}

// Rows of 48 are no multiple of heads of 15, as whole heads of 240 are.
TEST(PlanTest, ABucketOfCutHeadsDoesNotEndInsideAHeadThatFits) {
  PlanOptions options;
  options.ranks = 11;
  options.stage = 2;
  options.bucket_bytes = 60'000;
  options.collective_cost_bytes = 0;
  ASSERT_OK_AND_ASSIGN(const Plan plan,
                       MakePlan({Spec("cut", {40, 48}, BlockRule::Heads(5)),
                                 Spec("whole", {90, 3}, BlockRule::Heads(5))},
                                options));
  CheckPlan(plan);
  for (const SplitBlock& split : plan.split_blocks) EXPECT_EQ(split.param, 0);
}

TEST(PlanTest, WhatIsLeftOverJoinsNoBucketThatABufferIsTooSmallFor) {
  PlanOptions options;
  options.ranks = 4;
  options.stage = 2;
  options.buffer_budget_bytes = 2 * 6 * 4 * 32;  // A bucket: six rows.
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("w", {14, 32}, BlockRule::Rows())}, options));
  for (const BucketPlan& bucket : plan.buckets) CheckBufferOf(plan, bucket);
  EXPECT_THAT(plan.buckets, SizeIs(4));
}

TEST(PlanTest, APackedBlockLargerThanABufferIsInSeveralBuckets) {
  ParamSpec spec = Spec("w", {32, 64}, BlockRule::Whole());
  spec.output_is_last = true;
  PlanOptions options;
  options.ranks = 4;
  for (BlockCuts blocks : {BlockCuts::kWhole, BlockCuts::kSplitAtCuts}) {
    options.blocks = blocks;
    options.buffer_budget_bytes = 2 * 16 * 4 * 32;  // A bucket: 16 rows.
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({spec}, options));
    CheckPlan(plan);
    for (const BucketPlan& bucket : plan.buckets) CheckBufferOf(plan, bucket);
    EXPECT_GE(plan.buckets.size(), 4u);
    EXPECT_THAT(plan.split_blocks, SizeIs(1));
  }
}

TEST(PlanTest, PacksTransposedParameters) {
  ParamSpec spec = Spec("w", {4, 8}, BlockRule::Rows());
  spec.output_is_last = true;
  PlanOptions options;
  options.ranks = 2;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({spec}, options));
  EXPECT_FALSE(plan.buckets[0].in_place());
  EXPECT_EQ(plan.params[0].rows, 8);
  EXPECT_EQ(plan.buckets[0].segment, 16);
}

TEST(PlanTest, GrowsToTwoLayersRatherThanSplitAHead) {
  std::vector<ParamSpec> specs;
  for (int layer = 0; layer < 4; ++layer) {
    const std::string prefix = absl::StrCat("layers.", layer, ".");
    specs.push_back(Spec(prefix + "q", {64, 64}, BlockRule::Heads(16)));
    specs.push_back(Spec(prefix + "w", {64, 64}, BlockRule::Rows()));
  }
  PlanOptions options;
  options.ranks = 12;
  ASSERT_OK_AND_ASSIGN(const Plan two, MakePlan(specs, options));
  EXPECT_THAT(two.buckets, SizeIs(2));
  EXPECT_THAT(two.split_blocks, IsEmpty());
  options.stage = 3;
  ASSERT_OK_AND_ASSIGN(const Plan one, MakePlan(specs, options));
  EXPECT_THAT(one.buckets, SizeIs(4));
  EXPECT_THAT(one.split_blocks, SizeIs(16));
  for (ParamSpec& spec : specs) spec.layer_set = 0;
  ASSERT_OK_AND_ASSIGN(const Plan grouped, MakePlan(specs, options));
  EXPECT_THAT(grouped.buckets, SizeIs(1));
}

TEST(PlanTest, CutsALayerAtTensorEdgesWhenBytesSaySo) {
  std::vector<ParamSpec> specs;
  for (int i = 0; i < 4; ++i) {
    specs.push_back(
        Spec(absl::StrCat("layers.0.w", i), {8, 8}, BlockRule::Rows()));
  }
  PlanOptions options;
  options.ranks = 2;
  options.bucket_bytes = 2 * 64 * 4;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(specs, options));
  ASSERT_THAT(plan.buckets, SizeIs(2));
  EXPECT_THAT(plan.buckets[0].parts, SizeIs(2));
}

// Whose groups of ranks are others.
TEST(PlanTest, AnExpertsBucketIsOneWhateverADenseLayerLooksLike) {
  std::vector<ParamSpec> specs = {
      Spec("layers.0.w", {64, 64}, BlockRule::Rows()),
      Spec("layers.1.w", {64, 64}, BlockRule::Rows())};
  specs[1].expert = true;
  PlanOptions options;
  options.ranks = 2;
  for (Bucketing bucketing : {Bucketing::kCheapest, Bucketing::kByLayer}) {
    options.bucketing = bucketing;
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(specs, options));
    ASSERT_THAT(plan.buckets, SizeIs(2));
    EXPECT_FALSE(plan.buckets[0].expert);
    EXPECT_TRUE(plan.buckets[1].expert);
  }
}

TEST(PlanTest, PlansUnitsThatTravelAndRestSmaller) {
  PlannedParam projected;
  projected.name = "projected";
  projected.shape = {64, 32};
  projected.rows = 64;
  projected.row_elements = 32;
  projected.blocks = {{64, 1}};
  projected.units = {{64, 4, 4 * 8, 4 * 16}};
  PlannedParam plain = projected;
  plain.name = "plain";
  plain.units = {{64, 1, 32, 32}};
  PlanOptions options;
  for (int ranks : kRankCounts) {
    options.ranks = ranks;
    ASSERT_OK_AND_ASSIGN(const Plan plan,
                         MakePlanFor({projected, plain, projected}, options));
    CheckPlan(plan);
    ASSERT_THAT(plan.buckets, SizeIs(1));
    const BucketPlan& bucket = plan.buckets[0];
    EXPECT_FALSE(bucket.in_place());
    EXPECT_EQ(bucket.elements, 3 * 64 * 32);
    EXPECT_EQ(bucket.wire_elements, 64 * (8 + 32 + 8));
    EXPECT_LE(bucket.wire_segment, bucket.segment);
    for (const auto& runs : bucket.runs) {
      for (const zeromini::Run& run : runs) {
        if (run.param == 1) continue;
        EXPECT_EQ(run.first_row % 4, 0);
        EXPECT_EQ(run.rows % 4, 0);
      }
    }
  }
  options.ranks = 1;
  ASSERT_OK_AND_ASSIGN(const Plan plan,
                       MakePlanFor({projected, plain, projected}, options));
  EXPECT_THAT(plan.split_blocks, IsEmpty());
  EXPECT_EQ(plan.buckets[0].wire_segment, plan.buckets[0].wire_elements);
  EXPECT_EQ(plan.buckets[0].runs[0].at(1).offset, 64 * 32);
  EXPECT_EQ(plan.buckets[0].runs[0].at(1).wire_offset, 64 * 8);
}

TEST(SpansTest, MergesBlocksOfOneSizeAndLeavesPaddingOut) {
  PlannedParam param;
  param.rows = 24;
  param.row_elements = 2;
  param.blocks = {{4, 4}, {4, 1}};
  zeromini::Run run;
  run.first_row = 4;
  run.rows = 16;  // 4 rows, a block, 4 rows, a block.
  std::vector<BlockSpan> spans = SpansOf(param, run);
  ASSERT_THAT(spans, SizeIs(4));
  EXPECT_EQ(spans[0].first_block, 1);
  EXPECT_EQ(spans[0].blocks, 4);
  EXPECT_EQ(spans[1].first_row, 8);
  EXPECT_EQ(spans[1].first_block, 5);
  EXPECT_EQ(spans[1].rows_per_block, 4);
  EXPECT_EQ(spans[3].first_block, 10);

  param.blocks = {{24, 8}};
  param.padding_rows = 6;
  run.first_row = 0;
  run.rows = 24;
  spans = SpansOf(param, run);
  ASSERT_THAT(spans, SizeIs(2));
  EXPECT_EQ(spans[0].blocks, 2);
  EXPECT_EQ(spans[0].block_elements, 16);
  EXPECT_EQ(spans[1].block_elements, 2 * 2);
}

TEST(PlanTest, ALayerSetIsThatOfTheLayerUnlessOneIsNamed) {
  std::vector<ParamSpec> specs = {
      Spec("layers.3.a", {8, 4}), Spec("layers.3.b", {8, 4}),
      Spec("layers.3.c", {8, 4}), Spec("d", {8, 4})};
  specs[1].layer_set = kNoLayerSet;
  specs[2].layer_set = 7;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(specs, PlanOptions()));
  EXPECT_EQ(plan.params[0].layer_set, 3);
  EXPECT_EQ(plan.params[1].layer_set, kNoLayerSet);
  EXPECT_EQ(plan.params[1].layer, 3);
  EXPECT_EQ(plan.params[2].layer_set, 7);
  EXPECT_EQ(plan.params[3].layer_set, kNoLayerSet);
}

}  // namespace
}  // namespace zeromini
