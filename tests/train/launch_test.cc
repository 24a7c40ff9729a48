#include "tools/train/launch.h"

#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "support/delayed_stream.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "tools/train/batch_share.h"
#include "tools/train/blas.h"
#include "tools/train/pretrain_options.h"
#include "tools/train/progress.h"

namespace zeromini::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;

Environment Fake(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const char* name) -> const char* {
    const auto found = values.find(name);
    return found == values.end() ? nullptr : found->second.c_str();
  };
}

TEST(LaunchTest, RefusesToTrainAloneWhenWorldSizeSaysMore) {
  EXPECT_THAT(
      LaunchedGroup::Start({}, Fake({{"WORLD_SIZE", "2"}})).status(),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               AllOf(HasSubstr("WORLD_SIZE is 2"), HasSubstr("has 1 rank:"),
                     HasSubstr("mpirun -n 2"))));
}

TEST(LaunchTest, NamesSlurmAndBothNumbers) {
  EXPECT_THAT(CheckWorldSize(Fake({{"SLURM_NTASKS", "8"}}), 4),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("SLURM_NTASKS is 8"),
                             HasSubstr("has 4 ranks"))));
}

TEST(LaunchTest, RefusesAWorldSizeThatIsNoNumber) {
  EXPECT_THAT(CheckWorldSize(Fake({{"WORLD_SIZE", "two"}}), 1),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("WORLD_SIZE is two")));
}

TEST(LaunchTest, TrainsAloneWhereThatIsAskedFor) {
  LaunchOptions options;
  options.ignore_world_size = true;
  ASSERT_OK_AND_ASSIGN(
      LaunchedGroup group,
      LaunchedGroup::Start(options, Fake({{"WORLD_SIZE", "2"}})));
  EXPECT_EQ(group.communicator().size(), 1);
}

TEST(LaunchTest, MpirunsOwnSizeCountsBeforeTheAllocationsOfSlurm) {
  EXPECT_OK(CheckWorldSize(
      Fake({{"OMPI_COMM_WORLD_SIZE", "2"}, {"SLURM_NTASKS", "8"}}), 2));
  EXPECT_THAT(
      CheckWorldSize(Fake({{"OMPI_COMM_WORLD_SIZE", "2"}, {"WORLD_SIZE", "8"}}),
                     2),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("WORLD_SIZE is 8")));
  EXPECT_THAT(
      CheckWorldSize(
          Fake({{"OMPI_COMM_WORLD_SIZE", "2"}, {"SLURM_NTASKS", "2"}}), 1),
      StatusIs(absl::StatusCode::kFailedPrecondition,
               HasSubstr("OMPI_COMM_WORLD_SIZE is 2")));
}

TEST(LaunchTest, AcceptsAgreeingVariables) {
  EXPECT_OK(
      CheckWorldSize(Fake({{"WORLD_SIZE", "4"}, {"SLURM_NTASKS", "4"}}), 4));
  EXPECT_OK(CheckWorldSize(Fake({}), 1));
}

TEST(LaunchTest, TakesMpiOnlyUnderALauncherThatSpeaksIt) {
  EXPECT_TRUE(StartedByMpiLauncher(Fake({{"OMPI_COMM_WORLD_SIZE", "1"}})));
  EXPECT_TRUE(StartedByMpiLauncher(Fake({{"PMIX_RANK", "0"}})));
  EXPECT_FALSE(StartedByMpiLauncher(Fake({{"WORLD_SIZE", "2"}})));
}

TEST(LaunchTest, SumsOverRanks) {
  RunRanks(3, [](int rank, Communicator& group) {
    int64_t values[2] = {rank + 1, int64_t{1} << 40};
    ASSERT_OK(SumOverRanks(values, 2, group));
    EXPECT_EQ(values[0], 6);
    EXPECT_EQ(values[1], 3 * (int64_t{1} << 40));
  });
}

TEST(LaunchTest, TheSumOfFiniteLossesIsFinite) {
  for (double loss : {1e6, 8.0 * 256 * 1024, 3.4e38 * 256, -1e6, 1e-30}) {
    RunRanks(3, [loss](int rank, Communicator& group) {
      ASSERT_OK_AND_ASSIGN(const double sum,
                           SumOfLosses((rank + 1) * loss, group));
      EXPECT_DOUBLE_EQ(sum, 6 * loss);
    });
  }
}

TEST(LaunchTest, OneLossThatIsNotFiniteMakesTheSumNaN) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (double loss : {kInfinity, -kInfinity, std::nan("")}) {
    RunRanks(3, [loss](int rank, Communicator& group) {
      ASSERT_OK_AND_ASSIGN(const double sum,
                           SumOfLosses(rank == 1 ? loss : 1, group));
      EXPECT_TRUE(std::isnan(sum));
    });
  }
}

// Every task starts late, by as much on every rank.
class LateStream : public StreamWrapper {
 public:
  explicit LateStream(absl::Duration late)
      : StreamWrapper("late"), late_(late) {}
  void Enqueue(std::function<absl::Status()> task) override {
    EnqueueLate(absl::ToChronoMicroseconds(late_), std::move(task));
  }

 private:
  const absl::Duration late_;
};

GroupOptions LateGroup(absl::Duration late, absl::Duration timeout) {
  GroupOptions options;
  options.timeout = timeout;
  options.make_stream = [late](int /*rank*/) -> std::unique_ptr<HostStream> {
    return std::make_unique<LateStream>(late);
  };
  return options;
}

TEST(LaunchTest, ASumIsWaitedForAsLongAsItsExchangeMayTake) {
  const auto options = LateGroup(absl::Milliseconds(1500), absl::Seconds(1));
  RunRanks(
      2,
      [](int rank, Communicator& group) {
        int64_t value = rank + 1;
        ASSERT_OK(SumOverRanks(&value, 1, group));
        EXPECT_EQ(value, 3);
      },
      options);
}

TEST(LaunchTest, ASumThatARankDoesNotComeToNamesTheRank) {
  const auto options =
      LateGroup(absl::Milliseconds(200), absl::Milliseconds(500));
  RunRanks(
      2,
      [](int rank, Communicator& group) {
        if (rank == 1) return;
        int64_t value = 1;
        EXPECT_THAT(SumOverRanks(&value, 1, group),
                    StatusIs(absl::StatusCode::kDeadlineExceeded,
                             HasSubstr("rank 1 did not come")));
      },
      options);
}

TEST(PretrainOptionsTest, ASchedulesDefaultsFollowFromItsSteps) {
  PretrainOptions options;
  options.model = *NamedConfig("llama-1m");
  options.schedule = {ScheduleShape::kWarmupStableDecay, 1e-3, -1, -1, 100, -1};
  ASSERT_OK(Complete(options));
  EXPECT_DOUBLE_EQ(options.schedule.floor, 1e-4);
  EXPECT_EQ(options.schedule.warmup, 5);
  EXPECT_EQ(options.schedule.decay, 20);
  options.schedule.decay = 96;
  EXPECT_THAT(Complete(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("96 of decay")));
}

TEST(PretrainOptionsTest, RefusesATimeoutThatIsNone) {
  for (double seconds : {0.0, -1.0, 1e9, std::nan("")}) {
    PretrainOptions options;
    options.model = *NamedConfig("llama-1m");
    options.timeout_seconds = seconds;
    options.schedule.steps = 100;
    EXPECT_THAT(Complete(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("--timeout")));
  }
}

TEST(PretrainOptionsTest, TorchAdamWCannotSkip) {
  PretrainOptions options;
  options.model = *NamedConfig("llama-1m");
  options.schedule.steps = 100;
  options.skip_above = 1;
  ASSERT_OK(Complete(options));
  options.optimizer = "torch-adamw";
  EXPECT_THAT(Complete(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--skip-above")));
}

TEST(PretrainOptionsTest, OnlyAdamMinisSecondMomentsAreFactored) {
  PretrainOptions options;
  options.model = *NamedConfig("llama-1m");
  options.schedule.steps = 100;
  options.second_moment = "factored";
  ASSERT_OK(Complete(options));
  const auto refused = [](PretrainOptions changed, const char* why) {
    EXPECT_THAT(Complete(changed),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
  };
  PretrainOptions whole = options;
  whole.value_blocks = "whole";
  refused(whole, "--value-blocks whole is for --second-moment official");
  options.optimizer = "adamw";
  refused(options,
          "--second-moment factored is for --optimizer adam-mini, not adamw");
  options.optimizer = "torch-adamw";
  refused(options, "not torch-adamw");
  options.second_moment = "columns";
  refused(options, "--second-moment must be one of official, factored");
}

TEST(BatchShareTest, DealsContiguousSlices) {
  ASSERT_OK_AND_ASSIGN(const BatchShare share, ShareOfBatch(24, 2, 2, 3));
  EXPECT_EQ(share.first, 16);
  EXPECT_EQ(share.micro_batch, 4);
}

TEST(BatchShareTest, RefusesABatchThatDoesNotDivide) {
  EXPECT_THAT(
      ShareOfBatch(16, 2, 0, 3),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("16"), HasSubstr("3 ranks"),
                     HasSubstr("2 micro-steps"), HasSubstr("multiple of 6"))));
}

TEST(BlasTest, TellsTheReferenceFromOpenBlas) {
  EXPECT_EQ(
      BlasNameOf("/usr/lib/x86_64-linux-gnu/openblas-pthread/libblas.so.3"),
      "OpenBLAS");
  EXPECT_EQ(BlasNameOf("/usr/lib/x86_64-linux-gnu/blas/libblas.so.3.11.0"),
            "reference BLAS");
}

TEST(ProgressTest, ColoursOnlyWhenAsked) {
  const ProgressPoint point = {50, 100, 1.5, 1000, 65};
  EXPECT_THAT(BarLine(point, false), testing::Not(HasSubstr("\033")));
  EXPECT_THAT(BarLine(point, true), HasSubstr("\033["));
  EXPECT_THAT(PlainLine(point),
              AllOf(HasSubstr("50/100"), HasSubstr("1000 tokens/s"),
                    HasSubstr("1:05")));
}

}  // namespace
}  // namespace zeromini::tools
