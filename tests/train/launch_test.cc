#include "tools/train/launch.h"

#include <map>
#include <string>

#include "gmock/gmock.h"
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
      LaunchedGroup::Start("", Fake({{"WORLD_SIZE", "2"}})).status(),
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
