// What a ModelShape and the rows of query, key and fused tensors must agree on.

#include <limits>
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

template <typename Message>
void ExpectRefused(const ParamSpec& spec, const PlanOptions& options,
                   Message message) {
  EXPECT_THAT(MakePlan({spec}, options),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(spec.name), message)));
}

int64_t BlocksOf(const ParamSpec& spec, const PlanOptions& options) {
  const absl::StatusOr<Plan> plan = MakePlan({spec}, options);
  EXPECT_OK(plan);
  if (!plan.ok()) return -1;
  EXPECT_THAT(plan->warnings, IsEmpty());
  return plan->params[0].blocks_total;
}

// Qwen3-0.6B: 16 heads of 128 rows, 8 kv heads, and hidden is 1024.
const char kQuery[] = "model.layers.0.self_attn.q_proj.weight";
const char kKey[] = "model.layers.0.self_attn.k_proj.weight";

TEST(ModelShapeTest, RefusesAHeadDimensionThatWouldHalveTheHeads) {
  ExpectRefused(
      Spec(kQuery, {2048, 1024}), With({1024, 16}),
      AllOf(HasSubstr("2048"), HasSubstr("16 heads"), HasSubstr("head_dim 64"),
            HasSubstr("1024"), HasSubstr("set ModelShape::head_dim to 128")));
  EXPECT_EQ(BlocksOf(Spec(kQuery, {2048, 1024}), With({1024, 16, 8, 128})), 16);
  EXPECT_EQ(BlocksOf(Spec(kKey, {1024, 1024}), With({1024, 16, 8, 128})), 8);
}

TEST(ModelShapeTest, RefusesKeysOfAnotherNumberOfKvHeads) {
  ExpectRefused(Spec(kKey, {1024, 1024}), With({1024, 16, 8}),
                AllOf(HasSubstr("8 kv heads"), HasSubstr("head_dim 64"),
                      HasSubstr("set ModelShape::head_dim to 128")));
  ExpectRefused(Spec(kKey, {1024, 4096}), With({4096, 32}),
                AllOf(HasSubstr("32 kv heads"), HasSubstr("4096"),
                      HasSubstr("ModelShape::kv_heads to 8")));
}

TEST(ModelShapeTest, LetsKeysTellTheKvHeadsOfACertainHeadDimension) {
  EXPECT_EQ(BlocksOf(Spec(kKey, {1024, 4096}), With({4096, 32, 0, 128})), 8);
  // Not 6 of 32 heads, either.
  ExpectRefused(Spec(kKey, {768, 4096}), With({4096, 32, 0, 128}),
                HasSubstr("768"));
}

TEST(ModelShapeTest, RefusesFusedRowsThatDoNotFit) {
  ExpectRefused(Spec("model.layers.0.self_attn.qkv_proj.weight", {4096, 1024}),
                With({1024, 16, 8}),
                AllOf(HasSubstr("4096"), HasSubstr("2048"),
                      HasSubstr("set ModelShape::head_dim to 128")));
}

TEST(ModelShapeTest, RefusesATowerWithOtherHeads) {
  const ParamSpec vision =
      Spec("vision_tower.layers.0.self_attn.q_proj.weight", {1152, 1152});
  const PlanOptions text = With({2048, 32, 8, 64});
  ExpectRefused(vision, text,
                AllOf(HasSubstr("1152"), HasSubstr("2048"),
                      HasSubstr("BlockRule::Heads(")));
  ParamSpec told = vision;
  told.rule = BlockRule::Heads(72);
  EXPECT_EQ(BlocksOf(told, text), 16);
  ParamSpec frozen = vision;
  frozen.frozen = true;
  EXPECT_OK(MakePlan({frozen}, text));
}

TEST(ModelShapeTest, WarnsOfRowsThatFitWhereTheInputsDoNot) {
  // A tower of 64 heads of 32 beside a text model of 32 heads of 64.
  ASSERT_OK_AND_ASSIGN(
      const Plan plan,
      MakePlan({Spec("vision.layers.0.self_attn.q_proj.weight", {2048, 1152})},
               With({2048, 32, 8, 64})));
  EXPECT_THAT(plan.warnings,
              ElementsAre(AllOf(HasSubstr("vision"), HasSubstr("1152 inputs"),
                                HasSubstr("2048"))));
}

TEST(ModelShapeTest, WarnsOfKeysThatFitTheWrongWayRound) {
  ParamSpec key = Spec(kKey, {1024, 4096});
  key.output_is_last = true;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({key}, With({4096, 32})));
  EXPECT_THAT(plan.warnings, ElementsAre(AllOf(HasSubstr("1024 inputs"),
                                               HasSubstr("output_is_last"))));
}

TEST(ModelShapeTest, SaysThatHeadsDoNotDivideHidden) {
  ExpectRefused(Spec(kQuery, {64, 64}), With({64, 5}),
                AllOf(HasSubstr("5 heads do not divide hidden 64"),
                      HasSubstr("ModelShape::head_dim")));
}

TEST(ModelShapeTest, ChecksNothingWhereBlocksAreNoHeads) {
  PlanOptions adamw = With({1024, 16});
  adamw.algorithm = Algorithm::kAdamW;
  EXPECT_OK(MakePlan({Spec(kQuery, {2048, 1024})}, adamw));
  // Half heads are what the official naming takes.
  PlanOptions official = With({1024, 16});
  official.naming = Naming::kOfficial;
  EXPECT_EQ(BlocksOf(Spec(kQuery, {2048, 1024}), official), 32);
}

TEST(ModelShapeTest, GivesMlaQueriesTheirHeadsAndAsksForFusedKeysAndValues) {
  // DeepSeek-V2-Lite in small: 4 heads of 24 + 8 rows, values of 16.
  const PlanOptions options = With({64, 4, 4, 32});
  const std::string layer = "model.layers.0.self_attn.";
  EXPECT_EQ(BlocksOf(Spec(layer + "q_b_proj.weight", {128, 48}), options), 4);
  EXPECT_EQ(BlocksOf(Spec(layer + "q_a_proj.weight", {48, 64}), options), 48);
  EXPECT_EQ(
      BlocksOf(Spec(layer + "kv_a_proj_with_mqa.weight", {40, 64}), options),
      40);
  ExpectRefused(Spec(layer + "q_b_proj.weight", {128, 48}), With({64, 4}),
                AllOf(HasSubstr("128"), HasSubstr("head_dim 16"),
                      HasSubstr("set ModelShape::head_dim to 32")));
  ParamSpec kv = Spec(layer + "kv_b_proj.weight", {160, 48});
  ExpectRefused(kv, options,
                AllOf(HasSubstr("qk_nope_head_dim"), HasSubstr("v_head_dim")));
  kv.rule = BlockRule::Fused({{24, 24}, {16, 1}});
  EXPECT_EQ(BlocksOf(kv, options), 4 * 17);
}

TEST(ModelShapeTest, RefusesShapesNoModelHas) {
  const int64_t huge = std::numeric_limits<int64_t>::max();
  const ParamSpec norm = Spec("model.norm.weight", {64});
  for (const ModelShape& shape :
       {ModelShape{-64}, ModelShape{64, -1}, ModelShape{64, 4, -2},
        ModelShape{64, 4, 2, -16}, ModelShape{huge}, ModelShape{64, huge},
        ModelShape{64, 4, 4, huge}, ModelShape{64, 4, huge}}) {
    for (Naming naming : {Naming::kZeromini, Naming::kOfficial}) {
      PlanOptions options = With(shape);
      options.naming = naming;
      EXPECT_THAT(
          MakePlan({norm}, options),
          StatusIs(absl::StatusCode::kInvalidArgument,
                   HasSubstr("ModelShape::hidden, heads, kv_heads, head_dim")));
    }
  }
  EXPECT_THAT(
      MakePlan({norm}, With({64, 6, 4})),
      StatusIs(
          absl::StatusCode::kInvalidArgument,
          HasSubstr(
              "ModelShape::kv_heads 4 do not divide ModelShape::heads 6")));
}

TEST(ModelShapeTest, RefusesMoreRanksThanAPlanIsMadeFor) {
  PlanOptions options;
  for (int ranks : {65'537, 2'000'000'000}) {
    options.ranks = ranks;
    EXPECT_THAT(
        MakePlan({Spec("model.norm.weight", {64})}, options),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("65536"), HasSubstr(std::to_string(ranks)))));
  }
  options.ranks = 65'536;
  EXPECT_OK(MakePlan({Spec("model.norm.weight", {64})}, options));
  options.ranks = 2;
  for (int replicas : {0, -1, 40'000}) {
    options.replicas = replicas;
    EXPECT_THAT(MakePlan({Spec("model.norm.weight", {64})}, options),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr(std::to_string(replicas))));
  }
}

}  // namespace
}  // namespace zeromini
