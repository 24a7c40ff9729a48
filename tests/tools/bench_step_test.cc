#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/program_run.h"

namespace zeromini {
namespace {

using nlohmann::json;

class BenchStepTest : public ProgramTest {
 protected:
  static void ExpectRow(const json& row, int ranks, double least_seconds) {
    for (const char* key : {"optimizer", "implementation", "parameters",
                            "ranks", "seconds", "exposed_comm_seconds"}) {
      EXPECT_TRUE(row.contains(key)) << key << " in " << row;
    }
    EXPECT_EQ(row["ranks"], ranks);
    const double seconds = row["seconds"].get<double>();
    EXPECT_GT(seconds, least_seconds);
    EXPECT_GT(row["exposed_comm_seconds"].get<double>(), 0);
    EXPECT_LT(row["exposed_comm_seconds"].get<double>(), seconds);
  }

  // Both optimizers, and last the baseline.
  static void ExpectRows(const json& rows, int ranks,
                         const std::string& baseline,
                         double least_seconds = 0) {
    ASSERT_EQ(rows.size(), 3u) << rows;
    for (const json& row : rows) ExpectRow(row, ranks, least_seconds);
    EXPECT_EQ(rows[0]["optimizer"], "adam-mini");
    EXPECT_EQ(rows[1]["optimizer"], "adamw");
    EXPECT_EQ(rows[2]["optimizer"], "adamw");
    EXPECT_EQ(rows[2]["implementation"], baseline);
    for (int i = 0; i < 2; ++i) {
      EXPECT_EQ(rows[i]["implementation"], "zeromini");
      EXPECT_EQ(rows[i]["parameters"], rows[2]["parameters"]);
      ASSERT_TRUE(rows[i]["ratio_to_baseline"].is_number()) << rows[i];
      const double ratio = rows[i]["ratio_to_baseline"].get<double>();
      EXPECT_GT(ratio, 0);
      EXPECT_LE(rows[i]["ratio_low"].get<double>(), ratio);
      EXPECT_GE(rows[i]["ratio_high"].get<double>(), ratio);
    }
  }
};

TEST_F(BenchStepTest, ComparesBothOptimizersWithTheBaselineOnThreads) {
  for (const char* flags : {"--stage 1", "--stage 2", "--stage 2 --clip 0.01",
                            "--stage 1 --clip 0.01"}) {
    const Ran ran = Run(absl::StrCat(
        "bench step --comm threads --ranks 2 --params 256Ki --repetitions 2 ",
        flags));
    ASSERT_EQ(ran.exit_code, 0) << flags << ran.error;
    ExpectRows(ran.json, 2, "threads-allreduce+adamw");
  }
}

TEST_F(BenchStepTest, ComparesBothOptimizersWithTheBaselineOverMpi) {
  if (!HasMpi()) GTEST_SKIP() << "there is no MPI here";
  const Ran ran = RunOverMpi(
      2, "bench step --params 256Ki --repetitions 2 --stage 2 --clip 0.01");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ExpectRows(ran.json, 2, "mpi-allreduce+adamw");
}

TEST_F(BenchStepTest, StepsWithoutTheBaselineIfTold) {
  const Ran ran =
      Run("bench step --comm threads --ranks 2 --params 128Ki --repetitions 1 "
          "--no-baseline");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 2u) << ran.json;
  for (const json& row : ran.json) {
    ExpectRow(row, 2, 0);
    EXPECT_EQ(row["implementation"], "zeromini");
    EXPECT_FALSE(row.contains("ratio_to_baseline"));
    EXPECT_EQ(row["inter_host_bytes"], 0) << "there is one host";
  }
}

TEST_F(BenchStepTest, HoldsAboutAsManyParametersAsAskedFor) {
  for (const int mi : {1, 8}) {
    const Ran ran = Run(absl::StrCat(
        "bench step --comm threads --ranks 1 --optimizer adamw --repetitions 1 "
        "--params ",
        mi, "Mi"));
    ASSERT_EQ(ran.exit_code, 0) << ran.error;
    const double parameters = ran.json[0]["parameters"].get<double>();
    EXPECT_GT(parameters, mi * 0.98 * (1 << 20));
    EXPECT_LE(parameters, mi * 1.0 * (1 << 20));
  }
}

TEST_F(BenchStepTest, ComputesInEveryStep) {
  for (const char* how : {"wait", "spin"}) {
    const Ran ran = Run(absl::StrCat(
        "bench step --comm threads --ranks 2 --params 128Ki --repetitions 2 "
        "--compute-ms 40 --compute ",
        how));
    ASSERT_EQ(ran.exit_code, 0) << ran.error;
    ExpectRows(ran.json, 2, "threads-allreduce+adamw", 0.0399);
  }
}

TEST_F(BenchStepTest, RefusesWhatItCannotStep) {
  for (const char* flags :
       {"--params 1Ki", "--params 1Mi --layers 100", "--layers 0",
        "--params 2Gi", "--params many", "--stage 3", "--optimizer lion",
        "--compute nap", "--compute-ms -1", "--clip -1", "--forward-share 1.5",
        "--repetitions 0", "--speed 1"}) {
    const Ran ran = Run(std::string("bench step --comm threads ") + flags);
    EXPECT_EQ(ran.exit_code, 2) << flags;
    EXPECT_FALSE(ran.error.empty()) << flags;
  }
}

}  // namespace
}  // namespace zeromini
