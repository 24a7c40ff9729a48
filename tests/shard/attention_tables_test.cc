// Names whose rows are ordered in a way of their own: torch::nn's attention
// and ChatGLM's query_key_value.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/plan_specs.h"
#include "tests/support/status_matchers.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Blocks = std::vector<BlockSegment>;

struct Case {
  const char* name;
  std::vector<int64_t> shape;
  Role role;
  Blocks blocks;  // Empty: v per element.
};

TEST(TorchTableTest, KnowsTheTransformerLayersOfTorch) {
  const PlanOptions options = With({32, 4});
  for (const Case& c : {
           Case{"layers.0.self_attn.in_proj_weight",
                {96, 32},
                Role::kFusedQkv,
                {{32, 8}, {32, 8}, {32, 1}}},
           Case{"in_proj_weight",
                {96, 32},
                Role::kFusedQkv,
                {{32, 8}, {32, 8}, {32, 1}}},
           Case{"layers.0.self_attn.in_proj_bias", {96}, Role::kBias, {}},
           Case{"layers.0.self_attn.out_proj.weight",
                {32, 32},
                Role::kAttentionOutput,
                {{32, 1}}},
           Case{"layers.0.multihead_attn.out_proj.weight",
                {32, 32},
                Role::kAttentionOutput,
                {{32, 1}}},
           Case{"out_proj.weight", {32, 32}, Role::kAttentionOutput, {{32, 1}}},
           Case{"attn.q_proj_weight", {32, 32}, Role::kQuery, {{32, 8}}},
           Case{"attn.k_proj_weight", {32, 20}, Role::kKey, {{32, 8}}},
           Case{"attn.v_proj_weight", {32, 20}, Role::kValue, {{32, 1}}},
           Case{"attn.bias_k", {1, 1, 32}, Role::kBias, {}},
           Case{"attn.bias_v", {1, 1, 32}, Role::kBias, {}},
           Case{"layers.0.linear1.weight", {128, 32}, Role::kMlp, {{128, 1}}},
           Case{"layers.0.linear2.weight", {32, 128}, Role::kMlp, {{32, 1}}},
           Case{"layers.0.linear2.bias", {32}, Role::kBias, {}},
           Case{"layers.0.norm1.weight", {32}, Role::kNorm, {{1, 1}}},
       }) {
    ASSERT_OK_AND_ASSIGN(const Plan plan,
                         MakePlan({Spec(c.name, c.shape)}, options));
    EXPECT_THAT(plan.warnings, IsEmpty()) << c.name;
    EXPECT_STREQ(RoleName(plan.params[0].role), RoleName(c.role)) << c.name;
    EXPECT_EQ(plan.params[0].blocks, c.blocks) << c.name;
    EXPECT_EQ(plan.params[0].element_state, c.blocks.empty()) << c.name;
  }
}

TEST(TorchTableTest, RefusesAttentionOfOtherHeads) {
  EXPECT_THAT(
      MakePlan({Spec("self_attn.in_proj_weight", {96, 32})}, With({32, 4, 2})),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("in_proj_weight [96, 32]"), HasSubstr("64"),
                     HasSubstr("2 kv heads"))));
}

const char kChatGlm[] =
    "transformer.encoder.layers.0.self_attention.query_key_value.weight";

TEST(QueryKeyValueTest, TakesChatGlmsRowsAsThirds) {
  ASSERT_OK_AND_ASSIGN(const Plan plan,
                       MakePlan({Spec(kChatGlm, {64, 32})}, With({32, 4, 2})));
  EXPECT_EQ(plan.params[0].blocks, (Blocks{{32, 8}, {16, 8}, {16, 1}}));
  EXPECT_THAT(plan.warnings, IsEmpty());
}

TEST(QueryKeyValueTest, TakesFalconsRowsByKvHead) {
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("transformer.h.0.self_attention.query_key_value.weight",
                     {64, 32})},
               With({32, 4, 2})));
  EXPECT_EQ(plan.params[0].blocks, (Blocks{{16, 8}, {8, 8}, {8, 1}}));
  EXPECT_THAT(plan.warnings, IsEmpty());
}

TEST(QueryKeyValueTest, WarnsWhereTheNameHasTwoOrders) {
  const ParamSpec spec =
      Spec("encoder.layers.0.self_attention.query_key_value.weight", {64, 32});
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({spec}, With({32, 4, 2})));
  EXPECT_EQ(plan.params[0].blocks, (Blocks{{16, 8}, {8, 8}, {8, 1}}));
  EXPECT_THAT(
      plan.warnings,
      ElementsAre(AllOf(HasSubstr("ChatGLM"),
                        HasSubstr("Fused({{32, 8}, {16, 8}, {16, 1}})"))));
  // With one kv head both are the same.
  ParamSpec multi_query = spec;
  multi_query.shape = {48, 32};
  ASSERT_OK_AND_ASSIGN(const Plan single,
                       MakePlan({multi_query}, With({32, 4, 1})));
  EXPECT_THAT(single.warnings, IsEmpty());
}

std::vector<BlockKind> KindsOf(const ParamSpec& spec, ValueBlocks values) {
  PlanOptions options = With({32, 4, 1});
  options.value_blocks = values;
  const absl::StatusOr<Plan> plan = MakePlan({spec}, options);
  EXPECT_OK(plan);
  std::vector<BlockKind> kinds;
  for (const BlockSegment& segment : plan->params[0].blocks) {
    kinds.push_back(segment.kind.value());
  }
  return kinds;
}

// The one kv head has as many rows as the values have.
TEST(BlockKindTest, TellsAHeadFromAWholeValueOfAsManyRows) {
  constexpr auto kHead = BlockKind::kHead;
  const ParamSpec fused =
      Spec("self_attention.query_key_value.weight", {48, 32});
  EXPECT_THAT(KindsOf(fused, ValueBlocks::kWhole),
              ElementsAre(kHead, kHead, BlockKind::kWhole));
  EXPECT_THAT(KindsOf(fused, ValueBlocks::kRows),
              ElementsAre(kHead, kHead, BlockKind::kRow));
}

TEST(BlockKindTest, IsThatOfTheRuleWhateverTheName) {
  ParamSpec spec = Spec("w", {6, 32});
  spec.rule = BlockRule::Heads(3);
  EXPECT_THAT(KindsOf(spec, ValueBlocks::kRows), ElementsAre(BlockKind::kHead));
  spec.rule = BlockRule::Whole();
  EXPECT_THAT(KindsOf(spec, ValueBlocks::kRows),
              ElementsAre(BlockKind::kWhole));
  spec.rule = BlockRule::Fused({{1, 1}, {3, 3}, {2, 2, BlockKind::kWhole}});
  EXPECT_THAT(
      KindsOf(spec, ValueBlocks::kRows),
      ElementsAre(BlockKind::kRow, BlockKind::kHead, BlockKind::kWhole));
}

}  // namespace
}  // namespace zeromini
