// Where the library's warnings go.

#include <mutex>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;
using testing::StartsWith;

// A name that no table has, so that planning warns of it.
std::vector<ParamSpec> UnknownName() {
  return {Spec("no.such.tensor", {4, 4}, BlockRule(), -1)};
}

TEST(LogTest, WithoutASinkAWarningIsAnUncolouredLineOnStderr) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  RunRanks(2, [](int, Communicator& group) {
    Replica replica(UnknownName());
    EXPECT_OK(Optimizer::Create(ExactOptions(), replica.specs(), group));
  });
  EXPECT_THAT(testing::internal::GetCapturedStdout(), IsEmpty());
  EXPECT_THAT(testing::internal::GetCapturedStderr(),
              AllOf(StartsWith("zeromini: warning: "),
                    HasSubstr("no.such.tensor"), Not(HasSubstr("\033"))));
}

TEST(LogTest, ASinkGetsTheWarningOnceAndStderrNothing) {
  std::mutex mutex;
  std::vector<std::string> messages;
  testing::internal::CaptureStderr();
  RunRanks(2, [&](int, Communicator& group) {
    Replica replica(UnknownName());
    OptimizerOptions options = ExactOptions();
    options.log = [&](LogLevel level, absl::string_view message) {
      std::lock_guard<std::mutex> lock(mutex);
      EXPECT_EQ(level, LogLevel::kWarning);
      messages.emplace_back(message);
    };
    EXPECT_OK(Optimizer::Create(options, replica.specs(), group));
  });
  EXPECT_THAT(testing::internal::GetCapturedStderr(), IsEmpty());
  EXPECT_THAT(messages, ElementsAre(HasSubstr("no.such.tensor")));
}

}  // namespace
}  // namespace zeromini
