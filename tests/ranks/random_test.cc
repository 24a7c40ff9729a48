// Random configurations against one rank, to the bit.
//
// ZEROMINI_RANDOM_FIRST (1) and ZEROMINI_RANDOM_DRAWS (200) choose the seeds;
// a failure prints its own, which the first then repeats alone.

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/delayed_stream.h"
#include "support/random_run.h"

namespace zeromini {
namespace {

void ExpectSameSteps(const Outcome& got, const Outcome& one) {
  ASSERT_EQ(got.steps.size(), one.steps.size());
  for (size_t s = 0; s < one.steps.size(); ++s) {
    SCOPED_TRACE(testing::Message() << "step " << s);
    const StepOutcome& a = got.steps[s];
    const StepOutcome& b = one.steps[s];
    EXPECT_EQ(a.code, b.code);
    EXPECT_EQ(a.skipped, b.skipped);
    EXPECT_EQ(a.not_finite, b.not_finite);
    EXPECT_EQ(a.step, b.step);
    EXPECT_THAT(a.norm, testing::NanSensitiveDoubleEq(b.norm));
    EXPECT_EQ(a.clip_scale, b.clip_scale);
  }
}

void ExpectSame(const RandomCase& c, const Outcome& got, const Outcome& one) {
  ExpectSameSteps(got, one);
  for (const auto& [key, weights] : got.weights) {
    SCOPED_TRACE(c.specs[key.first].name);
    EXPECT_EQ(weights, one.weights.at(key));
    const auto state = got.states.find(key);
    if (state == got.states.end()) continue;
    const Optimizer::ParamState& expected = one.states.at(key);
    EXPECT_EQ(state->second.momentum, expected.momentum);
    EXPECT_EQ(state->second.second_moment, expected.second_moment);
    EXPECT_EQ(state->second.steps, expected.steps);
  }
}

void CompareWithOneRank(const RandomCase& c) {
  Outcome one;
  auto self = Self();
  ASSERT_OK(RankRun(c, OneForAll(c), *self).Run(&one));
  std::vector<Outcome> got(c.ranks);
  GroupOptions options = TestGroupOptions();
  if (c.delays > 0) {
    options.make_stream =
        DelayedStream::Factory(c.delays, std::chrono::microseconds(300));
  }
  RunRanks(
      c.ranks,
      [&](int rank, Communicator& group) {
        ASSERT_OK(RankRun(c, RankView(c, rank), group).Run(&got[rank]))
            << "rank " << rank;
      },
      options);
  for (int rank = 0; rank < c.ranks; ++rank) {
    SCOPED_TRACE(testing::Message() << "rank " << rank);
    ExpectSame(c, got[rank], one);
  }
}

uint64_t Number(const char* variable, uint64_t otherwise) {
  const char* text = std::getenv(variable);
  uint64_t value = otherwise;
  if (text != nullptr && !absl::SimpleAtoi(text, &value)) {
    ADD_FAILURE() << variable << " is no number: " << text;
  }
  return value;
}

TEST(RandomTest, AnyConfigurationGivesTheBitsOfOneRank) {
  const uint64_t first = Number("ZEROMINI_RANDOM_FIRST", 1);
  const uint64_t draws = Number("ZEROMINI_RANDOM_DRAWS", 200);
  for (uint64_t seed = first; seed < first + draws; ++seed) {
    const RandomCase c = DrawCase(seed);
    CompareWithOneRank(c);
    if (HasFailure()) {
      FAIL() << "ZEROMINI_RANDOM_FIRST=" << seed
             << " ZEROMINI_RANDOM_DRAWS=1: " << Describe(c);
    }
  }
}

}  // namespace
}  // namespace zeromini
