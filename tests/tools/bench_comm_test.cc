#include <cmath>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/program_run.h"

namespace zeromini {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

class BenchCommTest : public ProgramTest {
 protected:
  // What comparisons read, whatever was measured.
  static void ExpectRow(const json& row, int ranks) {
    for (const char* key :
         {"collective", "bytes", "ranks", "hosts", "seconds", "bus_bandwidth",
          "inter_host_bytes", "implementation", "latency_seconds",
          "algorithm_bandwidth"}) {
      EXPECT_TRUE(row.contains(key)) << key << " in " << row;
    }
    EXPECT_EQ(row["ranks"], ranks);
    EXPECT_EQ(row["hosts"], 1);
    const double seconds = row["seconds"].get<double>();
    EXPECT_GT(seconds, 0);
    EXPECT_LE(row["latency_seconds"].get<double>(), seconds);
    const double passes = row["collective"] == "all-reduce" ? 2 : 1;
    const double carried =
        row["bytes"].get<double>() * passes * (ranks - 1) / ranks;
    EXPECT_NEAR(row["bus_bandwidth"].get<double>() * seconds, carried,
                1e-6 * carried);
  }
};

TEST_F(BenchCommTest, ReportsEachCollectiveAndSizeOnThreads) {
  const Ran ran =
      Run("bench comm --comm threads --ranks 3 --sizes 1KiB,30000 "
          "--repetitions 2");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 6u);
  for (const json& row : ran.json) {
    ExpectRow(row, 3);
    EXPECT_EQ(row["implementation"], "zeromini");
  }
  EXPECT_EQ(ran.json[0]["collective"], "reduce-scatter");
  EXPECT_EQ(ran.json[3]["bytes"], 30000);
  EXPECT_EQ(ran.json[5]["collective"], "all-reduce");
}

TEST_F(BenchCommTest, RoundsAPayloadUpToWholeSegments) {
  const Ran ran =
      Run("bench comm --comm threads --ranks 3 --sizes 1001 --repetitions 1 "
          "--collectives all-gather");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 1u);
  EXPECT_EQ(ran.json[0]["bytes"], 1008);
}

TEST_F(BenchCommTest, MeasuresWhatALayoutIsWeighedByWhereSizesAllow) {
  const struct {
    const char* flags;
    bool measured;
  } kCases[] = {
      {"--ranks 2 --sizes 1KiB,1MiB", true},
      {"--ranks 2 --sizes 1KiB", false},
      {"--ranks 2 --sizes 1MiB", false},
      {"--ranks 2 --sizes 1KiB,1MiB --collectives all-gather", false},
      {"--ranks 1 --sizes 1KiB,1MiB", false},
  };
  for (const auto& [flags, measured] : kCases) {
    const Ran ran =
        Run(absl::StrCat("bench comm --comm threads --repetitions 1 ", flags));
    ASSERT_EQ(ran.exit_code, 0) << ran.error;
    for (const json& row : ran.json) {
      for (const char* key : {"copy_cost", "collective_cost_bytes"}) {
        ASSERT_TRUE(row.contains(key)) << row;
        if (measured) {
          EXPECT_GT(row[key].get<double>(), 0) << flags;
        } else {
          EXPECT_TRUE(row[key].is_null()) << flags;
        }
      }
    }
  }
}

TEST_F(BenchCommTest, MeasuresMpiBesideOurs) {
  if (!HasMpi()) GTEST_SKIP() << "there is no MPI here";
  const Ran ran = RunOverMpi(2, "bench comm --sizes 4KiB --repetitions 3");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 6u);
  for (size_t i = 0; i < ran.json.size(); i += 2) {
    const json& ours = ran.json[i];
    const json& theirs = ran.json[i + 1];
    ExpectRow(ours, 2);
    ExpectRow(theirs, 2);
    EXPECT_EQ(ours["implementation"], "zeromini");
    EXPECT_EQ(theirs["implementation"], "mpi");
    EXPECT_EQ(ours["collective"], theirs["collective"]);
    EXPECT_EQ(ours["inter_host_bytes"], 0);
    EXPECT_TRUE(theirs["inter_host_bytes"].is_null());
    ASSERT_TRUE(ours["ratio_to_mpi"].is_number()) << ours;
    EXPECT_GT(ours["ratio_to_mpi"].get<double>(), 0);
  }
}

TEST_F(BenchCommTest, RefusesWhatItCannotMeasure) {
  for (const char* flags :
       {"--sizes 3", "--sizes 1KiB,fast", "--sizes 5GiB", "--sizes -1",
        "--collectives gossip", "--comm pigeon", "--wire fp8", "--ranks 0",
        "--repetitions 0", "--timeout 0", "--speed 1"}) {
    const Ran ran = Run(std::string("bench comm --comm threads ") + flags);
    EXPECT_EQ(ran.exit_code, 2) << flags;
    EXPECT_FALSE(ran.error.empty()) << flags;
  }
}

TEST_F(BenchCommTest, RefusesAnotherNumberOfRanksThanMpiStarted) {
  if (!HasMpi()) GTEST_SKIP() << "there is no MPI here";
  const Ran ran = RunOverMpi(2, "bench comm --sizes 4KiB --ranks 3");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error, HasSubstr("--ranks 3, but mpirun started 2"));
}

TEST_F(BenchCommTest, SaysThatThereIsNoMpi) {
  if (HasMpi()) GTEST_SKIP() << "there is MPI here";
  const Ran ran = Run("bench comm --sizes 4KiB");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error, HasSubstr("configured without MPI"));
}

TEST_F(BenchCommTest, EndsWithAnErrorWhenRanksMeasureDifferentThings) {
  if (!HasMpi()) GTEST_SKIP() << "there is no MPI here";
  const auto part = [](const char* size) {
    return absl::StrCat("-n 1 ", ZEROMINI_PROGRAM,
                        " bench comm --timeout 20 --sizes ", size);
  };
  const Ran ran = RunCommand(
      absl::StrCat(ZEROMINI_MPIEXEC, " ", part("4KiB"), " : ", part("8KiB")));
  EXPECT_NE(ran.exit_code, 0);
  EXPECT_THAT(ran.error, AllOf(HasSubstr("rank 0"), HasSubstr("rank 1"),
                               HasSubstr("reduce-scatter")));
}

TEST_F(BenchCommTest, SaysOnEveryRankThatMemoryIsShort) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the sanitizer needs more address space";
#else
  for (const bool mpi : {false, true}) {
    if (mpi && !HasMpi()) continue;
    const Ran ran = RunCommand(absl::StrCat(
        "sh -c 'ulimit -v 3000000; ",
        mpi ? absl::StrCat("exec ", ZEROMINI_MPIEXEC, " -n 2 ") : "exec ",
        ZEROMINI_PROGRAM, " bench comm --sizes 4GiB --comm ",
        mpi ? "mpi" : "threads", "'"));
    EXPECT_EQ(ran.exit_code, 1);
    EXPECT_THAT(ran.error, AllOf(HasSubstr("rank 0: no memory"),
                                 HasSubstr("rank 1: no memory")));
  }
#endif
}

TEST_F(BenchCommTest, SaysThatItCannotWriteItsResults) {
  const Ran ran =
      RunCommand(absl::StrCat(ZEROMINI_PROGRAM,
                              " bench comm --comm threads --sizes 64 "
                              "--repetitions 1 --json ",
                              dir_, "/none/json"));
  EXPECT_EQ(ran.exit_code, 2);  // Found before any work.
  EXPECT_THAT(ran.error, HasSubstr(dir_ + "/none/json: cannot be created"));
}

}  // namespace
}  // namespace zeromini
