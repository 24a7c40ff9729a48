// Units that travel and rest in fewer elements than their weights have.

#include <set>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "shard/planner.h"
#include "tests/support/plan_specs.h"
#include "tests/support/status_matchers.h"

namespace zeromini {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr int64_t kRank = 128;

// The gradient projected on the left, matrix by matrix of a stack.
std::vector<UnitSegment> LowRank(const PlannedParam& param) {
  if (param.shape.size() < 2) return {};
  const int64_t rows = param.shape[param.shape.size() - 2];
  const int64_t elements = kRank * param.row_elements;
  return {{rows, rows, elements, elements}};
}

Plan PlanOf(const std::vector<ParamSpec>& specs, int ranks,
            Algorithm algorithm = Algorithm::kAdamW) {
  PlanOptions options;
  options.ranks = ranks;
  options.algorithm = algorithm;
  // A bucket may be as large as the matrix on each rank.
  options.buffer_budget_bytes = kNoBufferBudget;
  absl::StatusOr<Plan> plan = MakePlanWithUnits(specs, options, LowRank);
  EXPECT_OK(plan);
  return *std::move(plan);
}

const ParamSpec kMlp = Spec("layers.0.up", {11008, 4096});
const ParamSpec kNorm = Spec("layers.0.norm", {4096});

TEST(UnitsTest, AMatrixMayHaveNoWholeNumberOfElementsPerRowOnTheWire) {
  const Plan plan = PlanOf({kMlp, kNorm}, 3);
  EXPECT_EQ(WireElements(plan.params[0], 0, 11008), kRank * 4096);
  ASSERT_THAT(plan.buckets, SizeIs(1));
  const BucketPlan& bucket = plan.buckets[0];
  EXPECT_EQ(bucket.elements, 11008 * 4096 + 4096);
  EXPECT_EQ(bucket.wire_elements, kRank * 4096 + 4096);
  EXPECT_GE(bucket.wire_segment, kRank * 4096);
  EXPECT_LE(bucket.wire_segment, bucket.wire_elements);
  EXPECT_THAT(plan.split_blocks, IsEmpty());
}

TEST(UnitsTest, CountsUnitsOfSeveralSizesFromAnyOfThem) {
  PlannedParam param;
  param.rows = 12;
  param.row_elements = 10;
  param.units = {{4, 2, 3, 5}, {2, 1, 10, 10}};
  EXPECT_EQ(WireElements(param, 0, 2), 3);
  EXPECT_EQ(WireElements(param, 2, 3), 3 + 10);
  EXPECT_EQ(WireElements(param, 5, 5), 10 + 3 + 3);
  EXPECT_EQ(StateElements(param, 5, 7), 10 + 5 + 5 + 10 + 10);
  EXPECT_EQ(WireElements(param, 0, 12), 2 * (3 + 3 + 20));
}

TEST(UnitsTest, KeepsEachMatrixOfAStackOnOneRank) {
  ParamSpec stack = Spec("experts", {6, 256, 4}, BlockRule::Rows());
  stack.slices = 6;
  for (int ranks : {1, 2, 3, 4, 8}) {
    const Plan plan = PlanOf({stack}, ranks);
    int64_t wire_elements = 0;
    for (const auto& runs : plan.buckets[0].runs) {
      int64_t end = 0;
      for (const zeromini::Run& run : runs) {
        EXPECT_EQ(run.first_row % 256, 0);
        EXPECT_EQ(run.rows % 256, 0);
        EXPECT_EQ(run.wire_elements, run.rows / 256 * kRank * 4);
        EXPECT_EQ(run.state_elements, run.wire_elements);
        EXPECT_EQ(run.wire_offset, end);
        end += run.wire_elements;
      }
      EXPECT_LE(end, plan.buckets[0].wire_segment);
      wire_elements += end;
    }
    EXPECT_EQ(wire_elements, plan.buckets[0].wire_elements);
  }
}

TEST(UnitsTest, GivesTheWireOfAStepThatSendsTheWholeGradient) {
  const Plan plan = PlanOf({kMlp, kNorm}, 1);
  const BucketPlan& bucket = plan.buckets[0];
  const zeromini::Run& norm = bucket.runs[0].at(1);
  EXPECT_EQ(bucket.wire().segment, kRank * 4096 + 4096);
  EXPECT_EQ(bucket.wire().OffsetOf(norm), kRank * 4096);
  EXPECT_EQ(bucket.full_wire().elements, bucket.elements);
  EXPECT_EQ(bucket.full_wire().segment, bucket.segment);
  EXPECT_EQ(bucket.full_wire().OffsetOf(norm), 11008 * 4096);
  const zeromini::Run& mlp = bucket.runs[0].at(0);
  EXPECT_EQ(bucket.wire().ElementsOf(plan.params[0], mlp), kRank * 4096);
  EXPECT_EQ(bucket.full_wire().ElementsOf(plan.params[0], mlp), 11008 * 4096);
}

TEST(UnitsTest, HasOneWireWhereNothingIsProjected) {
  PlanOptions options;
  options.ranks = 3;
  ParamSpec packed = Spec("w", {8, 40}, BlockRule::Rows());
  packed.output_is_last = true;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan({packed, kNorm}, options));
  for (const BucketPlan& bucket : plan.buckets) {
    EXPECT_EQ(bucket.wire().elements, bucket.full_wire().elements);
    EXPECT_EQ(bucket.wire().segment, bucket.full_wire().segment);
    for (const auto& runs : bucket.runs) {
      for (const zeromini::Run& run : runs) {
        const PlannedParam& param = plan.params[run.param];
        EXPECT_EQ(bucket.wire().OffsetOf(run),
                  bucket.full_wire().OffsetOf(run));
        EXPECT_EQ(bucket.wire().ElementsOf(param, run),
                  bucket.full_wire().ElementsOf(param, run));
      }
    }
  }
}

TEST(UnitsTest, CountsSecondMomentsOfTheProjection) {
  EXPECT_EQ(PlanOf({kMlp}, 2).params[0].blocks_total, kRank * 4096);
  EXPECT_EQ(PlanOf({kMlp}, 2, Algorithm::kSgd).params[0].blocks_total, 0);
}

TEST(UnitsTest, AsksForNoUnitsOfFrozenAndTiedParameters) {
  ParamSpec frozen = Spec("frozen", {256, 4}, BlockRule::Rows());
  frozen.frozen = true;
  ParamSpec owner = Spec("owner", {256, 4}, BlockRule::Rows());
  ParamSpec tied = Spec("tied", {256, 4});
  tied.tied_to = "owner";
  std::vector<std::string> asked;
  const auto rule = [&](const PlannedParam& param) {
    asked.push_back(param.name);
    return std::vector<UnitSegment>();
  };
  ASSERT_OK(MakePlanWithUnits({frozen, owner, tied}, {}, rule));
  EXPECT_THAT(asked, ElementsAre("owner"));
}

TEST(UnitsTest, AreNumbersThatRanksMustAgreeOn) {
  std::set<uint64_t> hashes;
  for (int64_t wire : {1, 2}) {
    for (int64_t state : {1, 2}) {
      const auto rule = [&](const PlannedParam& param) {
        return std::vector<UnitSegment>{{param.rows, param.rows, wire, state}};
      };
      ASSERT_OK_AND_ASSIGN(
          const Plan plan,
          MakePlanWithUnits({Spec("w", {4, 4}, BlockRule::Rows())}, {}, rule));
      EXPECT_TRUE(hashes.insert(plan.hash).second);
    }
  }
}

TEST(UnitsTest, AreRefusedIfTheyLeaveRowsOutOrCountNothing) {
  for (const UnitSegment& unit :
       {UnitSegment{3, 3, 4, 4}, UnitSegment{4, 3, 4, 4},
        UnitSegment{4, 4, 0, 4}, UnitSegment{4, 4, 4, 0}}) {
    const auto rule = [&](const PlannedParam&) {
      return std::vector<UnitSegment>{unit};
    };
    EXPECT_THAT(
        MakePlanWithUnits({Spec("w", {4, 4}, BlockRule::Rows())}, {}, rule),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("w: units")));
  }
}

}  // namespace
}  // namespace zeromini
