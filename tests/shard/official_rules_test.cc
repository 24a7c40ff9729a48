// The classes that adam-mini 1.1.1 (zyushun/Adam-mini at 402aadf) gives these
// 30 names, recorded by running it, and what it does with shapes.

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

using ::testing::HasSubstr;

PlanOptions Official() {
  PlanOptions options;
  options.naming = Naming::kOfficial;
  options.model = {32, 4, 2, 0};
  return options;
}

ParamSpec Spec(std::string name, std::vector<int64_t> shape) {
  ParamSpec spec;
  spec.name = std::move(name);
  spec.shape = std::move(shape);
  return spec;
}

// With dim 32 and 4 heads a head is 256 elements: 8 rows of 32.
std::string ClassOf(const PlannedParam& param) {
  if (param.element_state) return "adam";
  const int64_t rows = param.blocks.at(0).rows_per_block;
  if (rows == 8) return "head";
  return rows == 1 ? "row" : "scalar";
}

struct NameRule {
  const char* name;
  const char* expected;
  bool decays;
};

constexpr NameRule kRules[] = {
    {"model.embed_tokens.weight", "row", true},
    {"model.layers.0.self_attn.q_proj.weight", "head", true},
    {"model.layers.0.self_attn.q_proj.bias", "adam", false},
    {"model.layers.0.self_attn.k_proj.weight", "head", true},
    {"model.layers.0.self_attn.v_proj.weight", "row", true},
    {"model.layers.0.self_attn.o_proj.weight", "row", true},
    {"model.layers.0.self_attn.q_norm.weight", "scalar", false},
    {"model.layers.0.self_attn.k_norm.weight", "scalar", false},
    {"model.layers.0.self_attn.qkv_proj.weight", "row", true},
    {"model.layers.0.mlp.gate_proj.weight", "row", true},
    {"model.layers.0.mlp.gate.weight", "row", true},
    {"model.layers.0.input_layernorm.weight", "scalar", false},
    {"model.layers.0.post_feedforward_layernorm.weight", "scalar", false},
    {"model.norm.weight", "scalar", false},
    {"lm_head.weight", "row", true},
    {"transformer.h.0.attn.c_attn.weight", "scalar", true},
    {"transformer.h.0.attn.c_proj.weight", "scalar", true},
    {"transformer.h.0.mlp.c_fc.weight", "row", true},
    {"transformer.h.0.ln_1.weight", "scalar", false},
    {"transformer.wpe.weight", "scalar", true},
    {"transformer.wte.weight", "row", true},
    {"gpt_neox.layers.0.attention.query_key_value.weight", "head", true},
    {"gpt_neox.layers.0.attention.dense.weight", "scalar", true},
    {"gpt_neox.final_layer_norm.weight", "row", false},
    {"model.decoder.final_layer_norm.weight", "row", false},
    {"model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "scalar", true},
    {"model.layers.0.self_attn.q_b_proj.weight", "scalar", true},
    {"layers.0.moe.experts.w1", "scalar", true},
    {"MODEL.Embed_Tokens.Weight", "row", true},
    {"conv1.weight", "scalar", true},
};

TEST(OfficialRulesTest, ClassifiesThirtyNamesAsRecorded) {
  for (const NameRule& rule : kRules) {
    ASSERT_OK_AND_ASSIGN(const Plan plan,
                         MakePlan({Spec(rule.name, {16, 32})}, Official()));
    EXPECT_EQ(ClassOf(plan.params[0]), rule.expected) << rule.name;
    EXPECT_EQ(plan.params[0].decays, rule.decays) << rule.name;
    EXPECT_TRUE(plan.warnings.empty());
  }
}

TEST(OfficialRulesTest, TakesMetaNamesBySubstringInItsOrder) {
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("layers.0.attention.wk.weight", {16, 32}),
                Spec("layers.0.attention.wo.weight", {16, 32}),
                Spec("layers.0.feed_forward.w1.weight", {16, 32}),
                Spec("encoder.attn.proj.weight", {16, 32}),
                Spec("layers.0.network.weight", {16, 32}),
                Spec("tok.query_bias", {16, 32})},
               Official()));
  std::vector<std::string> classes;
  for (const PlannedParam& param : plan.params) {
    classes.push_back(ClassOf(param));
  }
  EXPECT_THAT(classes,
              testing::ElementsAre("head", "row", "row", "row", "row", "adam"));
}

TEST(OfficialRulesTest, DropsTheValueNamesForWholeValues) {
  PlanOptions options = Official();
  options.value_blocks = ValueBlocks::kWhole;
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("a.v_proj.weight", {16, 32}), Spec("b.wv", {16, 32}),
                Spec("mlp.value", {16, 32})},
               options));
  EXPECT_EQ(ClassOf(plan.params[0]), "scalar");
  EXPECT_EQ(ClassOf(plan.params[1]), "scalar");
  EXPECT_EQ(ClassOf(plan.params[2]), "row");
}

TEST(OfficialRulesTest, TakesHalfHeadsAsTheOriginalDoes) {
  PlanOptions options = Official();
  options.model = {32, 4, 0, 16};
  ASSERT_OK_AND_ASSIGN(const Plan plan,
                       MakePlan({Spec("a.q_proj", {64, 32})}, options));
  EXPECT_EQ(plan.params[0].blocks_total, 8);
}

TEST(OfficialRulesTest, RefusesWhatTheOriginalFailsOn) {
  for (const ParamSpec& spec :
       {Spec("gpt_neox.final_layer_norm.weight", {32}),
        Spec("patch_embed.proj.weight", {64, 3, 2, 2}),
        Spec("mlp.experts.w1", {4, 16, 32}), Spec("rwkv.ln1.weight", {32}),
        Spec("a.q_proj.weight", {12, 32})}) {
    EXPECT_THAT(
        MakePlan({spec}, Official()),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(spec.name)));
  }
}

}  // namespace
}  // namespace zeromini
