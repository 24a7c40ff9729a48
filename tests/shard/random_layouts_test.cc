// Plans of random models: what must hold of each.
//
// ZEROMINI_RANDOM_FIRST (1) and ZEROMINI_RANDOM_DRAWS choose the seeds;
// a failure prints its own, which the first then repeats alone.

#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "gtest/gtest.h"
#include "tests/support/plan_checks.h"
#include "tests/support/random_layout.h"
#include "tests/support/status_matchers.h"

namespace zeromini {
namespace {

uint64_t Number(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  uint64_t value = otherwise;
  if (text != nullptr && !absl::SimpleAtoi(text, &value)) {
    ADD_FAILURE() << variable << " is no number: " << text;
  }
  return value;
}

// Calls `check` of each layout, until one fails.
template <typename Check>
void ForEachLayout(uint64_t otherwise, const Check& check) {
  const uint64_t first = Number("ZEROMINI_RANDOM_FIRST", 1);
  const uint64_t draws = Number("ZEROMINI_RANDOM_DRAWS", otherwise);
  for (uint64_t seed = first; seed < first + draws; ++seed) {
    const RandomLayout layout = DrawLayout(seed);
    const absl::StatusOr<Plan> plan = PlanOf(layout);
    ASSERT_OK(plan) << seed << "\n" << Describe(layout);
    check(layout, *plan);
    if (testing::Test::HasFailure()) {
      FAIL() << "ZEROMINI_RANDOM_FIRST=" << seed
             << " ZEROMINI_RANDOM_DRAWS=1: " << Describe(layout);
    }
  }
}

TEST(RandomLayoutsTest, EveryElementIsOwnedOnceAndLiesWhereThePlanSays) {
  ForEachLayout(3000,
                [](const RandomLayout&, const Plan& plan) { CheckPlan(plan); });
}

TEST(RandomLayoutsTest, NoBufferExceedsHalfTheBudgetUnlessAUnitOnEachRankDoes) {
  ForEachLayout(3000, [](const RandomLayout&, const Plan& plan) {
    if (plan.options.bucketing == Bucketing::kByLayer) return;
    for (const BucketPlan& bucket : plan.buckets) CheckBufferOf(plan, bucket);
  });
}

TEST(RandomLayoutsTest, APlanMadeAgainOfTensorsElsewhereIsTheSame) {
  std::vector<float> somewhere(1);
  ForEachLayout(300, [&](RandomLayout layout, const Plan& plan) {
    for (ParamSpec& spec : layout.specs) spec.data = somewhere.data();
    const absl::StatusOr<Plan> again = PlanOf(layout);
    ASSERT_OK(again);
    EXPECT_EQ(again->hash, plan.hash);
    EXPECT_EQ(again->ToJson(), plan.ToJson());
  });
}

}  // namespace
}  // namespace zeromini
