// Random configurations against one rank, to the bit.
//
// ZEROMINI_RANDOM_FIRST (1) and ZEROMINI_RANDOM_DRAWS (200) choose the seeds;
// a failure prints its own, which the first then repeats alone.

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <map>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/delayed_stream.h"
#include "support/random_draw.h"
#include "support/random_run.h"

namespace zeromini {
namespace {

// All NaNs are equal, and -0 is not 0.
std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits(values.size());
  for (size_t i = 0; i < values.size(); ++i) {
    const float value = std::isnan(values[i])
                            ? std::numeric_limits<float>::quiet_NaN()
                            : values[i];
    std::memcpy(&bits[i], &value, sizeof(value));
  }
  return bits;
}

void ExpectSame(const std::vector<float>& got, const std::vector<float>& one) {
  if (Bits(got) == Bits(one)) return;
  EXPECT_EQ(got, one);  // To print them.
  ADD_FAILURE() << "not the same bits";
}

using Weights = std::map<TensorKey, std::vector<float>>;
using States = std::map<TensorKey, Optimizer::ParamState>;

void ExpectSame(const RandomCase& c, const Weights& got, const Weights& one) {
  for (const auto& [key, weights] : got) {
    SCOPED_TRACE(c.specs[key.first].name);
    ExpectSame(weights, one.at(key));
  }
}

void ExpectSame(const RandomCase& c, const States& got, const States& one) {
  for (const auto& [key, state] : got) {
    SCOPED_TRACE(testing::Message() << "state of " << c.specs[key.first].name);
    ExpectSame(state.momentum, one.at(key).momentum);
    ExpectSame(state.second_moment, one.at(key).second_moment);
    EXPECT_EQ(state.steps, one.at(key).steps);
  }
}

void ExpectSameSteps(const RandomCase& c, const Outcome& got,
                     const Outcome& one) {
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
    ExpectSame(c, a.weights, b.weights);
    ExpectSame(c, a.states, b.states);
  }
}

void ExpectSame(const RandomCase& c, const Outcome& got, const Outcome& one) {
  ExpectSameSteps(c, got, one);
  ExpectSame(c, got.weights, one.weights);
  ExpectSame(c, got.states, one.states);
}

void CompareWithOneRank(const RandomCase& c) {
  Outcome one;
  auto self = MakeSelf();
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
