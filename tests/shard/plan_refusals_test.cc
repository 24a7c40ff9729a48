// What MakePlan refuses, and the name it gives.

#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/status_matchers.h"
#include "zeromini/kernels.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

using ::testing::HasSubstr;

ParamSpec Spec(std::string name, std::vector<int64_t> shape,
               BlockRule rule = BlockRule::Rows()) {
  ParamSpec spec;
  spec.name = std::move(name);
  spec.shape = std::move(shape);
  spec.rule = std::move(rule);
  return spec;
}

void ExpectRefused(const std::vector<ParamSpec>& specs,
                   const std::string& message, PlanOptions options = {}) {
  EXPECT_THAT(MakePlan(specs, options),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
}

TEST(PlanRefusalsTest, RefusesEmptyAndRepeatedNames) {
  ExpectRefused({Spec("a", {2}), Spec("", {2})}, "parameter 1 has an empty");
  ExpectRefused({Spec("a", {2}), Spec("a", {3})}, "repeats the name \"a\"");
}

TEST(PlanRefusalsTest, RefusesShapesThatHoldNothingOrTooMuch) {
  ExpectRefused({Spec("w", {4, 0})}, "w [4, 0]");
  ExpectRefused({Spec("w", {4, -1})}, "w [4, -1]");
  ExpectRefused({Spec("w", {int64_t{1} << 40, int64_t{1} << 40})}, "2^48");
}

TEST(PlanRefusalsTest, RefusesAUnitThatCannotBeCountedOnceForEachRank) {
  PlanOptions options;
  options.ranks = kMaxPlanRanks;
  options.algorithm = Algorithm::kAdamW;
  ExpectRefused({Spec("w", {1, int64_t{1} << 47})},
                "w: a unit of 140737488355328 elements on each of 65536 ranks",
                options);
  EXPECT_OK(MakePlan({Spec("w", {1, int64_t{1} << 40})}, options));
}

TEST(PlanRefusalsTest, RefusesWhatALayoutWeighsBeyondSixtyFourBits) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  PlanOptions options;
  options.collective_cost_bytes = kMost;
  ExpectRefused({Spec("w", {4})}, "collective_cost_bytes 9223372036854775807",
                options);
  options = PlanOptions();
  options.copy_cost = 1e300;
  ExpectRefused({Spec("w", {4})}, "copy_cost 1e+300 0 to 1e+06", options);
}

TEST(PlanRefusalsTest, RefusesRulesThatDoNotFit) {
  ExpectRefused({Spec("w", {10, 4}, BlockRule::Heads(4))}, "w [10, 4]");
  ExpectRefused({Spec("w", {10, 4}, BlockRule::Heads(0))}, "w [10, 4]");
  ExpectRefused({Spec("w", {10, 4}, BlockRule::Fused({{6, 4}, {4, 1}}))},
                "w [10, 4]");
  ExpectRefused({Spec("w", {10, 4}, BlockRule::Fused({{3, 3}}))}, "w [10, 4]");
  ExpectRefused({Spec("w", {10, 4}, BlockRule::Fused({}))}, "w [10, 4]");
}

TEST(PlanRefusalsTest, SaysWhatGivesColumnsFewerGroupsOfRows) {
  constexpr int64_t kMost = kMaxColumnAddends * kColumnGroupRows;
  PlanOptions whole;
  PlanOptions split;
  split.blocks = BlockCuts::kSplitAtCuts;
  const auto tall = [](int64_t rows) {
    return std::vector<ParamSpec>{Spec("w", {rows, 2}, BlockRule::Factored())};
  };
  const std::string rows = "give it BlockRule::Rows()";
  const std::string pad = "pad its rows to a multiple of 8";
  const std::string set = "set blocks to BlockCuts::kWhole";
  EXPECT_OK(MakePlan(tall(kMost), whole));
  ExpectRefused(tall(kMost - 1), "262144; " + pad + ", or " + rows, whole);
  ExpectRefused(tall(kMost - 1), "262144; " + pad + " and " + set + ", or ",
                split);
  ExpectRefused(tall(kMost), "262144; " + set + ", or " + rows, split);
  ExpectRefused(tall(kMost + 8), "262144; " + rows, whole);
  ExpectRefused(tall(kMost + 1), "262144; " + rows, split);
}

TEST(PlanRefusalsTest, RefusesARulesFieldsWithoutItsKindAndKindsWithoutThem) {
  for (BlockRule rule : {BlockRule(), BlockRule::Rows(), BlockRule::Whole(),
                         BlockRule::Element(), BlockRule::Heads(2),
                         BlockRule::Factored(), BlockRule::Columns()}) {
    rule.segments = {{2, 1}};
    ExpectRefused({Spec("w", {10, 4}, rule)},
                  "w [10, 4]: ParamSpec::rule.segments is given, but the rule "
                  "is not BlockRule::Kind::kFused");
  }
  for (BlockRule rule : {BlockRule(), BlockRule::Rows(), BlockRule::Whole(),
                         BlockRule::Element(), BlockRule::Fused({{2, 1}}),
                         BlockRule::Factored(), BlockRule::Columns()}) {
    rule.rows_per_head = 2;
    ExpectRefused({Spec("w", {10, 4}, rule)},
                  "w [10, 4]: ParamSpec::rule.rows_per_head is 2, but the "
                  "rule is not BlockRule::Kind::kHeads");
  }
  ExpectRefused({Spec("w", {10, 4}, BlockRule::Heads(0))},
                "BlockRule::Kind::kHeads needs ParamSpec::rule.rows_per_head");
  ExpectRefused({Spec("w", {10, 4}, BlockRule::Fused({}))},
                "BlockRule::Kind::kFused needs ParamSpec::rule.segments");
}

TEST(PlanRefusalsTest, RefusesFormsThatDoNotFitAndNamesTheCure) {
  ExpectRefused({Spec("w", {8}, BlockRule::Columns())},
                "w [8]: second moments that are shared by columns need a "
                "matrix, or a stack of them with slices set; a vector takes "
                "BlockRule::Element()");
  ExpectRefused({Spec("w", {8}, BlockRule::Factored())},
                "w [8]: second moments that are factored need a matrix");
  const BlockSegment pairs = {4, 2, std::nullopt, MomentForm::kFactored};
  ExpectRefused({Spec("w", {8, 4}, BlockRule::Fused({pairs}))},
                "w [8, 4]: a segment of 4 rows that is factored must have 1 "
                "row per block, not 2");
  const int64_t rows = kMaxColumnAddends;
  EXPECT_OK(MakePlan({Spec("w", {rows, 1}, BlockRule::Factored())}, {}));
  EXPECT_OK(MakePlan({Spec("w", {8 * rows, 1}, BlockRule::Columns())}, {}));
  ExpectRefused({Spec("w", {rows + 1, 1}, BlockRule::Factored())},
                "w [262145, 1]: a matrix of 262145 rows has 262145 groups");
  PlanOptions split;
  split.blocks = BlockCuts::kSplitAtCuts;
  ExpectRefused({Spec("w", {rows + 8, 1}, BlockRule::Columns())},
                "BlockRule::Rows()", split);
}

TEST(PlanRefusalsTest, RefusesAFormOutsideItsEnum) {
  const BlockSegment segment = {4, 1, std::nullopt, static_cast<MomentForm>(3)};
  ExpectRefused({Spec("w", {8, 4}, BlockRule::Fused({segment}))},
                "w [8, 4]: rule.segments[].form is 3");
}

TEST(PlanRefusalsTest, RefusesFusedSegmentsWhoseRowsOverflow) {
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  ExpectRefused(
      {Spec("w", {12, 4}, BlockRule::Fused({{kMost, 1}, {kMost, 1}}))},
      "w [12, 4]");
}

TEST(PlanRefusalsTest, RefusesStacksAndOrientationsThatDoNotFit) {
  ParamSpec stack = Spec("w", {3, 4, 5});
  stack.slices = 4;
  ExpectRefused({stack}, "stack of 4");
  ParamSpec vector = Spec("w", {8});
  vector.output_is_last = true;
  ExpectRefused({vector}, "output_is_last");
  ParamSpec padded = Spec("w", {8, 4});
  padded.padding_rows = 8;
  ExpectRefused({padded}, "padding_rows is 8 of 8");
}

TEST(PlanRefusalsTest, RefusesTiesToUnknownLaterOrDifferentTensors) {
  ParamSpec head = Spec("head", {8, 4});
  head.tied_to = "wte";
  ExpectRefused({head}, "no earlier parameter");
  ExpectRefused({head, Spec("wte", {8, 4})}, "no earlier parameter");
  ExpectRefused({Spec("wte", {9, 4}), head}, "another shape");
}

TEST(PlanRefusalsTest, RefusesALayerSetThatIsNeitherANumberNorNamed) {
  ParamSpec spec = Spec("w", {8, 4});
  spec.layer_set = kNoLayerSet - 1;
  ExpectRefused({spec}, "layer_set is -3, but must be a number of at least 0");
}

TEST(PlanRefusalsTest, RefusesGroupsAndStagesThatDoNotExist) {
  PlanOptions options;
  options.ranks = 0;
  ExpectRefused({Spec("w", {4})}, "got 0", options);
  options.ranks = 1;
  options.stage = 4;
  ExpectRefused({Spec("w", {4})}, "got 4", options);
}

TEST(PlanRefusalsTest, NamesKnownAlgorithmsAndModels) {
  EXPECT_THAT(ParseAlgorithm("lion"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("adam-mini, adamw")));
  ASSERT_OK_AND_ASSIGN(const Algorithm algorithm, ParseAlgorithm("adam-mini"));
  EXPECT_EQ(algorithm, Algorithm::kAdamMini);
  EXPECT_THAT(FindPreset("llama-9"),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("llama-2-7b")));
}

}  // namespace
}  // namespace zeromini
