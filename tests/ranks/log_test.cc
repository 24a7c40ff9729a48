// Where the library's warnings go.

#include <functional>
#include <mutex>
#include <string>
#include <vector>

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
    EXPECT_OK(MakeOptimizer(ExactOptions(), replica.specs(), group));
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
    EXPECT_OK(MakeOptimizer(options, replica.specs(), group));
  });
  EXPECT_THAT(testing::internal::GetCapturedStderr(), IsEmpty());
  EXPECT_THAT(messages, ElementsAre(HasSubstr("no.such.tensor")));
}

using Messages = std::vector<std::string>;

// Of two ranks, on which `body` runs with options that have two groups, whose
// names are default and still, and a sink.
Messages MessagesOf(
    const std::function<void(OptimizerOptions*, Communicator&)>& body) {
  std::mutex mutex;
  Messages messages;
  RunRanks(2, [&](int, Communicator& group) {
    OptimizerOptions options = ExactOptions();
    options.hyper_groups.emplace_back();
    options.hyper_groups[1].name = "still";
    options.log = [&](LogLevel, absl::string_view message) {
      std::lock_guard<std::mutex> lock(mutex);
      messages.emplace_back(message);
    };
    body(&options, group);
  });
  return messages;
}

constexpr char kStill[] =
    "group 'still': learning_rate_scale is 0: its parameters keep their "
    "weights";

std::vector<ParamSpec> TwoGroups() {
  std::vector<ParamSpec> specs = {Spec("a", {4, 4}, BlockRule::Rows(), -1),
                                  Spec("b", {4, 4}, BlockRule::Rows(), -1)};
  specs[1].hyper_group = 1;
  return specs;
}

TEST(LogTest, AGroupThatCannotMoveIsWarnedOfOnceAtCreate) {
  EXPECT_THAT(MessagesOf([](OptimizerOptions* options, Communicator& group) {
                options->hyper_groups[1].learning_rate_scale = 0;
                Replica replica(TwoGroups());
                EXPECT_OK(MakeOptimizer(*options, replica.specs(), group));
              }),
              ElementsAre(kStill));
}

TEST(LogTest, AGroupOfNothingThatIsTrainedMayHaveScaleZero) {
  EXPECT_THAT(MessagesOf([](OptimizerOptions* options, Communicator& group) {
                options->hyper_groups[1].learning_rate_scale = 0;
                std::vector<ParamSpec> specs = TwoGroups();
                specs[1].frozen = true;
                Replica replica(specs);
                EXPECT_OK(MakeOptimizer(*options, replica.specs(), group));
              }),
              IsEmpty());
}

TEST(LogTest, SetGroupWarnsWhenAGroupStopsAndNotAgainWhileItStands) {
  EXPECT_THAT(
      MessagesOf([](OptimizerOptions* options, Communicator& group) {
        Replica replica(TwoGroups());
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(*options, replica.specs(), group));
        HyperGroup still = options->hyper_groups[1];
        still.learning_rate_scale = 0;
        EXPECT_OK(optimizer->SetHyperGroup(1, still));
        EXPECT_OK(optimizer->SetHyperGroup(1, still));
        EXPECT_OK(optimizer->SetHyperGroup(1, options->hyper_groups[1]));
        EXPECT_OK(optimizer->SetHyperGroup(1, still));
      }),
      ElementsAre(kStill, kStill));
}

}  // namespace
}  // namespace zeromini
