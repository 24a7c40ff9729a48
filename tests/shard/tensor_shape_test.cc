// What a tensor's own shape tells of its storage, and what it cannot.

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
using ::testing::Not;

ParamSpec Transposed(ParamSpec spec) {
  spec.output_is_last = true;
  return spec;
}

// hidden 32, 4 heads of 8, 2 kv heads.
PlanOptions Gqa(Algorithm algorithm = Algorithm::kAdamMini) {
  PlanOptions options;
  options.algorithm = algorithm;
  options.model = {32, 4, 2, 8};
  return options;
}

PlannedParam Planned(const ParamSpec& spec,
                     const PlanOptions& options = Gqa()) {
  const absl::StatusOr<Plan> plan = MakePlan({spec}, options);
  EXPECT_OK(plan);
  if (!plan.ok()) return {};
  EXPECT_THAT(plan->warnings, IsEmpty());
  return plan->params[0];
}

TEST(OrientationTest, SeesTransposedStorageWhereTheShapeTells) {
  const std::string layer = "model.layers.0.";
  for (const ParamSpec& spec :
       {Spec(layer + "self_attn.k_proj.weight", {32, 16}),
        Spec(layer + "self_attn.v_proj.weight", {32, 16}),
        Spec(layer + "self_attn.qkv_proj.weight", {32, 64}),
        Spec(layer + "mlp.gate_proj.weight", {32, 88}),
        Spec(layer + "mlp.up_proj.weight", {32, 88}),
        Spec(layer + "mlp.down_proj.weight", {88, 32}),
        Spec(layer + "mlp.fc1.weight", {32, 88}),
        Spec(layer + "mlp.fc2.weight", {88, 32}),
        Spec(layer + "mlp.gate.weight", {32, 8}),
        Spec(layer + "mlp.experts.gate_up_proj", {4, 32, 96}),
        Spec(layer + "mlp.experts.down_proj", {4, 48, 32}),
        Spec("layers.0.feed_forward.w1.weight", {32, 88}),
        Spec("layers.0.feed_forward.w2.weight", {88, 32}),
        Spec("decoder.layers.0.mlp.linear_fc2.weight", {88, 32}),
        Spec("gpt_neox.layers.0.mlp.dense_h_to_4h.weight", {32, 128}),
        Spec("fcw", {3, 32, 128}), Spec("fcprojw", {3, 128, 32}),
        Spec("lm_head.weight", {32, 50})}) {
    EXPECT_THAT(MakePlan({spec}, Gqa()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(spec.name), HasSubstr("[in, out]"),
                               HasSubstr("set ParamSpec::output_is_last"))))
        << spec.name;
    const PlannedParam told = Planned(Transposed(spec));
    EXPECT_TRUE(told.transposed) << spec.name;
    EXPECT_EQ(told.rows % spec.shape.back(), 0) << spec.name;
    EXPECT_OK(MakePlan({spec}, Gqa(Algorithm::kAdamW))) << spec.name;
  }
}

TEST(OrientationTest, SeesAQueryOfOtherThanHiddenRowsStoredTheOtherWay) {
  PlanOptions options;
  options.model = {32, 4, 2, 16};
  const ParamSpec query = Spec("layers.0.attention.wq.weight", {32, 64});
  EXPECT_THAT(MakePlan({query}, options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("set ParamSpec::output_is_last")));
  EXPECT_EQ(Planned(Transposed(query), options).blocks_total, 4);
}

TEST(OrientationTest, SeesADeclarationThatIsWrong) {
  for (const ParamSpec& spec :
       {Spec("model.layers.0.mlp.up_proj.weight", {88, 32}),
        Spec("model.layers.0.mlp.down_proj.weight", {32, 88}),
        Spec("model.layers.0.self_attn.k_proj.weight", {16, 32})}) {
    EXPECT_THAT(MakePlan({Transposed(spec)}, Gqa()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(spec.name),
                               HasSubstr("clear ParamSpec::output_is_last"))));
  }
}

TEST(OrientationTest, SetsTheStackOfDeclaredExperts) {
  const PlannedParam param = Planned(
      Transposed(Spec("model.layers.0.mlp.experts.gate_up_proj", {4, 32, 96})));
  EXPECT_EQ(param.rows, 4 * 96);
  EXPECT_EQ(param.row_elements, 32);
}

TEST(OrientationTest, BelievesARule) {
  ParamSpec spec = Spec("vision.layers.0.mlp.fc1.weight", {32, 88});
  spec.rule = BlockRule::Rows();
  EXPECT_EQ(Planned(spec).blocks_total, 32);
}

TEST(OrientationTest, WarnsOnceOfSquaresThatDifferFromTheirNeighbours) {
  // gpt-oss: experts [E, in, out], of which down_proj is square.
  std::vector<ParamSpec> specs;
  for (const char* layer : {"model.layers.0.", "model.layers.1."}) {
    const std::string experts = std::string(layer) + "mlp.experts.";
    specs.push_back(
        Spec(layer + std::string("self_attn.k_proj.weight"), {16, 32}));
    specs.push_back(
        Spec(layer + std::string("self_attn.o_proj.weight"), {32, 32}));
    specs.push_back(Transposed(Spec(experts + "gate_up_proj", {4, 32, 64})));
    specs.push_back(Spec(experts + "down_proj", {4, 32, 32}));
  }
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(specs, Gqa()));
  EXPECT_THAT(plan.warnings,
              ElementsAre(AllOf(
                  HasSubstr("model.layers.0.mlp.experts.down_proj [4, 32, 32]"),
                  HasSubstr("square"), HasSubstr("output_is_last"),
                  HasSubstr("1 more"), Not(HasSubstr("o_proj")))));
  specs[3].output_is_last = true;
  specs[7].output_is_last = true;
  ASSERT_OK_AND_ASSIGN(const Plan told, MakePlan(specs, Gqa()));
  EXPECT_THAT(told.warnings, IsEmpty());
}

TEST(OrientationTest, WarnsOfSquareAttentionBesideATransposedMlp) {
  PlanOptions options;
  options.model = {32, 4};
  const ParamSpec query = Spec("h.0.attn.q_proj.weight", {32, 32});
  const ParamSpec up = Transposed(Spec("h.0.mlp.up_proj.weight", {32, 88}));
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({query, up}, options));
  EXPECT_THAT(plan.warnings, ElementsAre(HasSubstr("h.0.attn.q_proj")));
  ASSERT_OK_AND_ASSIGN(const Plan told,
                       MakePlan({Transposed(query), up}, options));
  EXPECT_THAT(told.warnings, IsEmpty());
  options.naming = Naming::kOfficial;
  ASSERT_OK_AND_ASSIGN(const Plan official, MakePlan({query, up}, options));
  EXPECT_THAT(official.warnings, IsEmpty());
}

TEST(DimensionsTest, AsksForSlicesOrARuleWhereDimensionsAreUnclear) {
  for (const ParamSpec& spec :
       {Spec("blob.mixer", {4, 16, 32}), Spec("blob.filter", {8, 3, 4, 4}),
        Spec("layers.0.attention.wv.weight", {2, 8, 32}),
        Spec("layers.0.attention.wo.weight", {4, 8, 32}),
        Spec("embed_tokens.weight", {4, 50, 32}),
        Spec("blocks.0.fc1.weight", {64, 16, 3})}) {
    EXPECT_THAT(
        MakePlan({spec}, Gqa()),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr(spec.name), HasSubstr("ParamSpec::slices"),
                       HasSubstr("BlockRule::Rows()"))))
        << spec.name;
    PlanOptions factored = Gqa();
    factored.second_moment = SecondMoment::kFactored;
    EXPECT_THAT(MakePlan({spec}, factored),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("BlockRule::Factored()")))
        << spec.name;
    EXPECT_OK(MakePlan({spec}, Gqa(Algorithm::kAdamW))) << spec.name;
    EXPECT_OK(MakePlan({spec}, Gqa(Algorithm::kSgd))) << spec.name;
    ParamSpec told = spec;
    told.rule = BlockRule::Rows();
    EXPECT_EQ(Planned(told).blocks_total, spec.shape[0]) << spec.name;
    ParamSpec frozen = spec;
    frozen.frozen = true;
    EXPECT_OK(MakePlan({frozen}, Gqa()));
  }
}

TEST(DimensionsTest, OffersNoSlicesWhereDimensionZeroStacksNothing) {
  for (const ParamSpec& spec :
       {Spec("cls_token", {1, 1, 32}), Spec("pos_embed", {1, 16, 32}),
        Spec("blob.filter", {1, 3, 4, 4}),
        Spec("layers.0.mlp.up_proj", {1, 88, 32})}) {
    EXPECT_THAT(MakePlan({spec}, Gqa()),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr(spec.name),
                               HasSubstr("leave it out of ParamSpec::shape"),
                               HasSubstr("BlockRule::Whole()"),
                               Not(HasSubstr("slices")))))
        << spec.name;
    ParamSpec told = spec;
    told.rule = BlockRule::Whole();
    EXPECT_EQ(Planned(told).blocks_total, 1) << spec.name;
    if (spec.shape.size() > 3) continue;
    ParamSpec flat = spec;
    flat.shape.erase(flat.shape.begin());
    ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({flat}, Gqa()));
    EXPECT_EQ(plan.params[0].blocks_total, spec.shape[1]) << spec.name;
  }
}

TEST(DimensionsTest, SaysWhatSlicesGet) {
  ParamSpec stack = Spec("blob.mixer", {4, 16, 32});
  stack.slices = 4;
  ParamSpec columns = Transposed(stack);
  columns.name = "blob.columns";
  ParamSpec vectors = Spec("blob.gain", {4, 32});
  vectors.slices = 4;
  ASSERT_OK_AND_ASSIGN(const Plan plan,
                       MakePlan({stack, columns, vectors}, Gqa()));
  EXPECT_EQ(plan.params[0].blocks_total, 4 * 16);
  EXPECT_EQ(plan.params[1].blocks_total, 4 * 32);
  EXPECT_EQ(plan.params[2].blocks_total, 4);
  EXPECT_THAT(plan.warnings,
              ElementsAre(HasSubstr("per row of each of the 4 slices"),
                          HasSubstr("per column of each of the 4 slices"),
                          HasSubstr("for each of the 4 slices")));
  stack.shape = {4, 2, 8, 32};
  EXPECT_THAT(MakePlan({stack}, Gqa()),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("blob.mixer [4, 2, 8, 32]"),
                             HasSubstr("rule"))));
}

TEST(DimensionsTest, KnowsAConvolutionByItsName) {
  for (const char* name :
       {"conv1.weight", "stem.conv.weight", "layers.0.mixer.conv1d.weight",
        "vision.patch_embed.proj.weight",
        "embeddings.patch_embedding.weight"}) {
    EXPECT_EQ(Planned(Spec(name, {64, 3, 14, 14})).blocks_total, 64) << name;
    EXPECT_EQ(Planned(Spec(name, {64, 3, 5})).blocks_total, 64) << name;
  }
}

}  // namespace
}  // namespace zeromini
