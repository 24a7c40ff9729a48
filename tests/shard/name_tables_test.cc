// Every family's names through MakePlan: role, blocks, decay, orientation.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/plan_specs.h"
#include "tests/support/status_matchers.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;
using Blocks = std::vector<BlockSegment>;

// hidden 32, 4 heads of 8, 2 kv heads.
PlanOptions Gqa() {
  PlanOptions options;
  options.model = {32, 4, 2, 8};
  return options;
}

absl::StatusOr<PlannedParam> Resolve(const ParamSpec& spec,
                                     const PlanOptions& options = Gqa()) {
  absl::StatusOr<Plan> plan = MakePlan({spec}, options);
  if (!plan.ok()) return plan.status();
  EXPECT_THAT(plan->warnings, IsEmpty());
  return plan->params[0];
}

struct Case {
  const char* name;
  std::vector<int64_t> shape;
  Role role;
  const char* table;
  Blocks blocks;  // Empty: v per element.
};

class NameTablesTest : public testing::TestWithParam<Case> {};

TEST_P(NameTablesTest, GivesRoleAndBlocks) {
  const Case& c = GetParam();
  ASSERT_OK_AND_ASSIGN(const PlannedParam param,
                       Resolve(Spec(c.name, c.shape)));
  EXPECT_STREQ(RoleName(param.role), RoleName(c.role)) << c.name;
  EXPECT_EQ(param.chosen_by, c.table) << c.name;
  EXPECT_EQ(param.blocks, c.blocks) << c.name;
  EXPECT_EQ(param.element_state, c.blocks.empty()) << c.name;
  EXPECT_EQ(param.decays, c.role != Role::kNorm && c.role != Role::kBias);
}

const Blocks kGroups = {{16, 8}, {8, 8}, {8, 1}};
const Blocks kThirds = {{32, 8}, {16, 8}, {16, 1}};

INSTANTIATE_TEST_SUITE_P(
    HuggingFace, NameTablesTest,
    testing::Values(
        Case{"model.embed_tokens.weight",
             {50, 32},
             Role::kEmbedding,
             "hf",
             {{50, 1}}},
        Case{"lm_head.weight", {50, 32}, Role::kOutput, "hf", {{50, 1}}},
        Case{"model.layers.0.self_attn.q_proj.weight",
             {32, 32},
             Role::kQuery,
             "hf",
             {{32, 8}}},
        Case{"model.layers.0.self_attn.k_proj.weight",
             {16, 32},
             Role::kKey,
             "hf",
             {{16, 8}}},
        Case{"model.layers.0.self_attn.v_proj.weight",
             {16, 32},
             Role::kValue,
             "hf",
             {{16, 1}}},
        Case{"model.layers.0.self_attn.o_proj.weight",
             {32, 32},
             Role::kAttentionOutput,
             "hf",
             {{32, 1}}},
        Case{"model.layers.0.self_attn.qkv_proj.weight",
             {64, 32},
             Role::kFusedQkv,
             "hf",
             kThirds},
        Case{"model.layers.0.mlp.gate_up_proj.weight",
             {88, 32},
             Role::kMlp,
             "hf",
             {{88, 1}}},
        Case{"model.layers.0.mlp.experts.3.down_proj.weight",
             {32, 44},
             Role::kMlp,
             "hf",
             {{32, 1}}},
        Case{"model.layers.0.self_attn.dense.weight",
             {32, 32},
             Role::kAttentionOutput,
             "hf",
             {{32, 1}}},
        Case{"model.layers.0.mlp.fc1.weight",
             {64, 32},
             Role::kMlp,
             "hf",
             {{64, 1}}},
        Case{"model.layers.0.self_attn.q_proj.bias",
             {32},
             Role::kBias,
             "bias",
             {}}));

INSTANTIATE_TEST_SUITE_P(
    NormsWithClassWords, NameTablesTest,
    testing::Values(
        Case{"model.layers.0.input_layernorm.weight",
             {32},
             Role::kNorm,
             "norm",
             {{1, 1}}},
        Case{"model.layers.0.post_feedforward_layernorm.weight",
             {32},
             Role::kNorm,
             "norm",
             {{1, 1}}},
        Case{"gpt_neox.final_layer_norm.weight",
             {32},
             Role::kNorm,
             "norm",
             {{1, 1}}},
        Case{"decoder.final_layernorm.weight",
             {32},
             Role::kNorm,
             "norm",
             {{1, 1}}},
        Case{"decoder.layers.1.mlp.linear_fc1.layer_norm_weight",
             {32},
             Role::kNorm,
             "norm",
             {{1, 1}}},
        Case{"decoder.layers.1.mlp.linear_fc1.layer_norm_bias",
             {32},
             Role::kBias,
             "bias",
             {}},
        Case{"layers.0.mlp_norm.weight", {32}, Role::kNorm, "norm", {{1, 1}}},
        Case{"h.0.ln_mlp.weight", {32}, Role::kNorm, "norm", {{1, 1}}},
        Case{"model.layers.0.self_attn.q_norm.weight",
             {8},
             Role::kNorm,
             "norm",
             {{1, 1}}},
        Case{"encoder.layer.0.output.LayerNorm.weight",
             {32},
             Role::kNorm,
             "norm",
             {{1, 1}}},
        Case{"transformer.ln_f.weight", {32}, Role::kNorm, "norm", {{1, 1}}},
        Case{"transformer.ln_f.bias", {32}, Role::kBias, "bias", {}}));

INSTANTIATE_TEST_SUITE_P(
    Meta, NameTablesTest,
    testing::Values(
        Case{"tok_embeddings.weight",
             {50, 32},
             Role::kEmbedding,
             "meta",
             {{50, 1}}},
        Case{"layers.0.attention.wq.weight",
             {32, 32},
             Role::kQuery,
             "meta",
             {{32, 8}}},
        Case{"layers.0.attention.wk.weight",
             {16, 32},
             Role::kKey,
             "meta",
             {{16, 8}}},
        Case{"layers.0.attention.wv.weight",
             {16, 32},
             Role::kValue,
             "meta",
             {{16, 1}}},
        Case{"layers.0.attention.wo.weight",
             {32, 32},
             Role::kAttentionOutput,
             "meta",
             {{32, 1}}},
        Case{"layers.0.feed_forward.w2.weight",
             {32, 88},
             Role::kMlp,
             "meta",
             {{32, 1}}},
        Case{"layers.0.moe.experts.w1",
             {4, 88, 32},
             Role::kMlp,
             "meta",
             {{88, 1}}},
        Case{"layers.0.ffn_norm.weight", {32}, Role::kNorm, "norm", {{1, 1}}},
        Case{"output.weight", {50, 32}, Role::kOutput, "meta", {{50, 1}}}));

INSTANTIATE_TEST_SUITE_P(
    LlmC, NameTablesTest,
    testing::Values(
        Case{"wte", {50, 32}, Role::kEmbedding, "gpt2", {{50, 1}}},
        Case{"wpe", {16, 32}, Role::kEmbedding, "gpt2", {{16, 1}}},
        Case{"ln1w", {3, 32}, Role::kNorm, "llm.c", {{1, 1}}},
        Case{"qkvw", {3, 64, 32}, Role::kFusedQkv, "llm.c", kThirds},
        Case{"qkvw.2", {64, 32}, Role::kFusedQkv, "llm.c", kThirds},
        Case{"qkvb", {3, 64}, Role::kBias, "llm.c", {}},
        Case{"attprojw",
             {3, 32, 32},
             Role::kAttentionOutput,
             "llm.c",
             {{32, 1}}},
        Case{"fcprojw", {3, 32, 128}, Role::kMlp, "llm.c", {{32, 1}}},
        Case{"lnfw", {32}, Role::kNorm, "llm.c", {{1, 1}}}));

INSTANTIATE_TEST_SUITE_P(
    MegatronAndNeoX, NameTablesTest,
    testing::Values(Case{"embedding.word_embeddings.weight",
                         {50, 32},
                         Role::kEmbedding,
                         "megatron",
                         {{50, 1}}},
                    Case{"decoder.layers.0.self_attention.linear_qkv.weight",
                         {64, 32},
                         Role::kFusedQkv,
                         "megatron",
                         kGroups},
                    Case{"decoder.layers.0.self_attention.linear_proj.weight",
                         {32, 32},
                         Role::kAttentionOutput,
                         "megatron",
                         {{32, 1}}},
                    Case{"decoder.layers.0.mlp.linear_fc1.weight",
                         {88, 32},
                         Role::kMlp,
                         "megatron",
                         {{88, 1}}},
                    Case{"decoder.layers.0.mlp.experts.linear_fc2.weight7",
                         {32, 88},
                         Role::kMlp,
                         "megatron",
                         {{32, 1}}},
                    Case{"gpt_neox.layers.0.attention.query_key_value.weight",
                         {64, 32},
                         Role::kFusedQkv,
                         "gpt-neox",
                         kGroups},
                    Case{"gpt_neox.layers.0.attention.dense.weight",
                         {32, 32},
                         Role::kAttentionOutput,
                         "gpt-neox",
                         {{32, 1}}},
                    Case{"gpt_neox.layers.0.mlp.dense_h_to_4h.weight",
                         {128, 32},
                         Role::kMlp,
                         "gpt-neox",
                         {{128, 1}}},
                    Case{"embed_out.weight",
                         {50, 32},
                         Role::kOutput,
                         "gpt-neox",
                         {{50, 1}}}));

TEST(BlockRulesTest, InterleavesQueryKeyAndValueOfEachHeadWithoutKvGroups) {
  PlanOptions options;
  options.model = {32, 4, 0, 0};
  ASSERT_OK_AND_ASSIGN(
      const PlannedParam param,
      Resolve(Spec("layers.0.attention.query_key_value.weight", {96, 32}),
              options));
  EXPECT_EQ(param.blocks, (Blocks{{8, 8}, {8, 8}, {8, 1}}));
  EXPECT_EQ(param.blocks_total, 4 * (1 + 1 + 8));
}

TEST(BlockRulesTest, ReadsConv1dByOutputColumn) {
  ParamSpec spec = Spec("transformer.h.0.attn.c_attn.weight", {32, 96});
  spec.output_is_last = true;
  PlanOptions options;
  options.model = {32, 4, 0, 0};
  ASSERT_OK_AND_ASSIGN(const PlannedParam param, Resolve(spec, options));
  EXPECT_TRUE(param.transposed);
  EXPECT_EQ(param.rows, 96);
  EXPECT_EQ(param.row_elements, 32);
  EXPECT_EQ(param.blocks, (Blocks{{32, 8}, {32, 8}, {32, 1}}));
}

TEST(BlockRulesTest, RefusesConv1dStorageThatNobodyDeclared) {
  PlanOptions options;
  options.model = {32, 4, 0, 0};
  for (const ParamSpec& spec : {Spec("h.0.attn.c_attn.weight", {32, 96}),
                                Spec("h.0.mlp.c_fc.weight", {32, 128}),
                                Spec("h.0.mlp.c_proj.weight", {128, 32})}) {
    EXPECT_THAT(MakePlan({spec}, options),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("output_is_last")))
        << spec.name;
  }
}

TEST(BlockRulesTest, TakesHeadDimensionsThatAreNotHiddenOverHeads) {
  PlanOptions options;
  options.model = {40, 4, 2, 16};
  ASSERT_OK_AND_ASSIGN(
      const PlannedParam param,
      Resolve(Spec("layers.0.self_attn.q_proj.weight", {64, 40}), options));
  EXPECT_EQ(param.blocks_total, 4);
}

TEST(BlockRulesTest, RefusesHeadsWithoutAHeadDimension) {
  EXPECT_THAT(MakePlan({Spec("layers.3.attention.wq.weight", {32, 32})}, {}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       testing::AllOf(HasSubstr("layers.3.attention.wq"),
                                      HasSubstr("head_dim"))));
}

TEST(BlockRulesTest, MakesTheValueOneBlockPerSliceWhenAsked) {
  PlanOptions options = Gqa();
  options.value_blocks = ValueBlocks::kWhole;
  ASSERT_OK_AND_ASSIGN(
      const PlannedParam value,
      Resolve(Spec("layers.0.attention.wv.weight", {16, 32}), options));
  EXPECT_EQ(value.blocks_total, 1);
  ASSERT_OK_AND_ASSIGN(const PlannedParam fused,
                       Resolve(Spec("qkvw", {3, 64, 32}), options));
  EXPECT_EQ(fused.blocks, (Blocks{{32, 8}, {16, 8}, {16, 16}}));
  EXPECT_EQ(fused.blocks_total, 3 * (4 + 2 + 1));
}

TEST(BlockRulesTest, StacksExpertsAndLayers) {
  ASSERT_OK_AND_ASSIGN(const PlannedParam experts,
                       Resolve(Spec("layers.0.moe.experts.w2", {4, 32, 88})));
  EXPECT_EQ(experts.rows, 4 * 32);
  EXPECT_EQ(experts.row_elements, 88);
  ASSERT_OK_AND_ASSIGN(const PlannedParam norms,
                       Resolve(Spec("ln2w", {3, 32})));
  EXPECT_EQ(norms.blocks_total, 3);
  ASSERT_OK_AND_ASSIGN(const PlannedParam biases,
                       Resolve(Spec("fcb", {3, 128})));
  EXPECT_EQ(biases.blocks_total, 3 * 128);
}

TEST(BlockRulesTest, MakesAFilterARowOfAConvolution) {
  ParamSpec spec = Spec("patch_embed.proj.weight", {64, 3, 14, 14});
  spec.rule = BlockRule::Rows();
  ASSERT_OK_AND_ASSIGN(const PlannedParam param, Resolve(spec));
  EXPECT_EQ(param.rows, 64);
  EXPECT_EQ(param.row_elements, 3 * 14 * 14);
  EXPECT_EQ(param.chosen_by, "rule");
}

TEST(BlockRulesTest, WarnsOfUnknownNamesWithWhatWasChosen) {
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("blob.mixer", {8, 4}), Spec("blob.gain", {8})}, Gqa()));
  EXPECT_THAT(plan.warnings,
              ElementsAre(testing::AllOf(HasSubstr("blob.mixer [8, 4]"),
                                         HasSubstr("per row")),
                          testing::AllOf(HasSubstr("blob.gain [8]"),
                                         HasSubstr("for the tensor"))));
  EXPECT_EQ(plan.params[0].blocks_total, 8);
  EXPECT_EQ(plan.params[1].blocks_total, 1);
  EXPECT_TRUE(plan.params[0].decays);
  EXPECT_FALSE(plan.params[1].decays);
}

TEST(BlockRulesTest, NeedsNoNamesForAdamW) {
  PlanOptions options;
  options.algorithm = Algorithm::kAdamW;
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("blob", {8, 4}), Spec("x.q_proj.weight", {8, 4}),
                Spec("x.norm.weight", {4})},
               options));
  EXPECT_THAT(plan.warnings, IsEmpty());
  EXPECT_TRUE(plan.params[1].element_state);
  ASSERT_THAT(plan.params[1].units, SizeIs(1));
  EXPECT_EQ(plan.params[1].units[0].rows, 8);
  EXPECT_EQ(plan.params[1].units[0].rows_per_unit, 1);
  EXPECT_EQ(plan.params[2].rows, 4);
  EXPECT_EQ(plan.params[2].row_elements, 1);
  EXPECT_FALSE(plan.params[2].decays);
}

TEST(BlockRulesTest, TiesToTheOwnerOfTheStorage) {
  ParamSpec head = Spec("lm_head.weight", {50, 32});
  head.tied_to = "wte";
  ASSERT_OK_AND_ASSIGN(const Plan plan,
                       MakePlan({Spec("wte", {50, 32}), head}, Gqa()));
  EXPECT_EQ(plan.params[1].tied_to, 0);
  EXPECT_THAT(plan.params[1].buckets, IsEmpty());
  EXPECT_EQ(plan.params[1].blocks_total, 0);
  ASSERT_THAT(plan.buckets, SizeIs(1));
  ASSERT_THAT(plan.buckets[0].parts, SizeIs(1));
  EXPECT_EQ(plan.buckets[0].parts[0].param, 0);
}

TEST(BlockRulesTest, GivesFrozenParametersNeitherStateNorBandwidth) {
  ParamSpec spec = Spec("layers.0.attention.wq.weight", {32, 32});
  spec.frozen = true;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({spec}, PlanOptions{}));
  EXPECT_THAT(plan.params[0].buckets, IsEmpty());
  EXPECT_EQ(plan.params[0].blocks_total, 0);
  EXPECT_THAT(plan.buckets, IsEmpty());
}

TEST(BlockRulesTest, NumbersTheLayersOfTwoStacksApart) {
  ASSERT_OK_AND_ASSIGN(const Plan plan,
                       MakePlan({Spec("encoder.layers.0.fc1.weight", {8, 4}),
                                 Spec("encoder.layers.1.fc1.weight", {8, 4}),
                                 Spec("decoder.layers.0.fc1.weight", {8, 4}),
                                 Spec("qkvb.1", {8})},
                                Gqa()));
  EXPECT_EQ(plan.params[1].layer, 1);
  EXPECT_EQ(plan.params[2].layer, 2);
  EXPECT_EQ(plan.params[2].layer_set, 2);
}

}  // namespace
}  // namespace zeromini
