#include "gtest/gtest.h"
#include "runtime/step/step_decider.h"
#include "zeromini/internal/scalar_words.h"

namespace zeromini {
namespace {

TEST(StepAnswerTest, PresenceAndFinitenessAreCountedApart) {
  std::vector<int64_t> here(ScalarWords(2, 0), 0), there = here;
  here[ParamWord(0)] = 1;
  there[ParamWord(0)] = 1 + kNotFiniteUnit;
  there[ParamWord(1)] = kNotFiniteUnit;
  ASSERT_TRUE(CpuKernels()
                  .add_words({here.data(), there.data(),
                              static_cast<int64_t>(here.size())},
                             Stream{})
                  .ok());
  StepAnswer answer;
  answer.words = here;
  EXPECT_EQ(answer.RanksPresent(0), 2);
  EXPECT_EQ(answer.RanksNotFinite(0), 1);
  EXPECT_EQ(answer.RanksPresent(1), 0);
  EXPECT_EQ(answer.RanksNotFinite(1), 1);
}

}  // namespace
}  // namespace zeromini
