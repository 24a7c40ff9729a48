// Plans that no state can move between, and what is said of them.

#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "shard/planner.h"
#include "tests/support/plan_specs.h"
#include "tests/support/status_matchers.h"
#include "zeromini/plan_map.h"

namespace zeromini {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

Plan PlanOf(const std::vector<ParamSpec>& specs, int ranks) {
  PlanOptions options;
  options.ranks = ranks;
  absl::StatusOr<Plan> plan = MakePlan(specs, options);
  EXPECT_OK(plan);
  return *std::move(plan);
}

void ExpectRefused(const ParamSpec& spec, const std::string& message) {
  const Plan from = PlanOf({Spec("w", {8, 4}, BlockRule::Rows())}, 2);
  EXPECT_THAT(MakeMap(from, PlanOf({spec}, 2)),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(message)));
}

TEST(PlanMapRefusalsTest, RefusesAParameterWhoseStateIsNotThatOfTheOther) {
  ExpectRefused(Spec("w", {4, 8}, BlockRule::Rows()),
                "'w' was [8, 4], is [4, 8]");
  ExpectRefused(Spec("w", {8, 4}, BlockRule::Heads(4)),
                "'w' had blocks of 8x1 rows, now blocks of 2x4 rows");
  ExpectRefused(Spec("w", {8, 4}, BlockRule::Element()),
                "now a second moment per element");
  ParamSpec spec = Spec("w", {8, 4}, BlockRule::Rows());
  spec.frozen = true;
  ExpectRefused(spec, "'w' is frozen, was not");
  spec.frozen = false;
  spec.expert = true;
  ExpectRefused(spec, "'w' is an expert's, was not");
  spec.expert = false;
  spec.output_is_last = true;
  ExpectRefused(spec, "'w' is stored with the output last, was not");
}

std::vector<UnitSegment> OneUnit(const PlannedParam& param) {
  return {{param.rows, param.rows, 7, 7}};
}

TEST(PlanMapRefusalsTest, RefusesAnotherAlgorithmAndOtherUnits) {
  const std::vector<ParamSpec> specs = {
      Spec("x2", {8, 4}, BlockRule::Element())};
  PlanOptions options;
  ASSERT_OK_AND_ASSIGN(const Plan mini, MakePlan(specs, options));
  options.algorithm = Algorithm::kAdamW;
  ASSERT_OK_AND_ASSIGN(const Plan adamw, MakePlan(specs, options));
  EXPECT_THAT(
      MakeMap(mini, adamw),
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr("'x2' had the state of adam-mini, now adamw")));
  ASSERT_OK_AND_ASSIGN(const Plan whole,
                       MakePlanWithUnits(specs, options, OneUnit));
  EXPECT_THAT(MakeMap(adamw, whole),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("had 32 elements of momentum in units of 1 "
                                 "rows, now 7 elements of momentum in units "
                                 "of 8 rows")));
}

TEST(PlanMapRefusalsTest, NamesAllParametersThatDoNotFitUpToSixteen) {
  std::vector<ParamSpec> from, to;
  for (int i = 0; i < 12; ++i) {
    from.push_back(Spec(absl::StrCat("old", i), {2, 2}, BlockRule::Rows()));
    to.push_back(Spec(absl::StrCat("new", i), {2, 2}, BlockRule::Rows()));
  }
  EXPECT_THAT(
      MakeMap(PlanOf(from, 2), PlanOf(to, 2)),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("differ in 24 parameters"),
                     HasSubstr("'old11' [2, 2] is missing where state goes to"),
                     HasSubstr("'new3' [2, 2] is missing where state comes "
                               "from; and 8 more"),
                     Not(HasSubstr("'new4'")))));
}

TEST(PlanMapRefusalsTest, RefusesTensorsThatAreTiedInOnePlanOnly) {
  std::vector<ParamSpec> specs = {Spec("a", {4, 2}, BlockRule::Rows()),
                                  Spec("b", {4, 2}, BlockRule::Rows())};
  const Plan apart = PlanOf(specs, 2);
  specs[1].tied_to = "a";
  EXPECT_THAT(MakeMap(apart, PlanOf(specs, 2)),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'b' shared storage as {b}, now as {a, b}")));
}

}  // namespace
}  // namespace zeromini
