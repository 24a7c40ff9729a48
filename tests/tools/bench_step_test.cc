#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/program_run.h"

namespace zeromini {
namespace {

using nlohmann::json;
using testing::HasSubstr;

class BenchStepTest : public ProgramTest {
 protected:
  static void ExpectRow(const json& row, int ranks, double least_seconds) {
    for (const char* key :
         {"optimizer", "implementation", "parameters", "ranks", "seconds",
          "exposed_comm_seconds", "stage", "buckets", "padding_fraction",
          "in_place_fraction", "buffer_bytes", "collectives", "copy_cost",
          "copied_bytes_per_rank", "collective_cost_bytes"}) {
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

TEST_F(BenchStepTest, ComparesFormsOfSecondMomentsByName) {
  const Ran ran =
      Run("bench step --comm threads --ranks 2 --params 128Ki --repetitions 1 "
          "--no-baseline --second-moment official,factored");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 3u) << ran.json;
  EXPECT_EQ(ran.json[0]["optimizer"], "adam-mini");
  EXPECT_EQ(ran.json[1]["optimizer"], "factored");
  EXPECT_EQ(ran.json[2]["optimizer"], "adamw");
  const int official = ran.json[0]["collectives"].get<int>();
  EXPECT_EQ(ran.json[1]["collectives"], official + 1)
      << "ranks agree on the digits of columns, so matrices are factored";
  EXPECT_EQ(ran.json[2]["collectives"], official);
}

TEST_F(BenchStepTest, HoldsWhatItPlansOfFactoredSecondMoments) {
  const Ran ran =
      Run("bench memory --model gpt2 --scale 1/12 --optimizer adam-mini "
          "--second-moment factored");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  for (const json& row : ran.json) {
    EXPECT_EQ(row["optimizer"], "factored");
    EXPECT_EQ(row["bytes_per_parameter"], row["bytes_per_parameter_expected"]);
    EXPECT_LE(row["peak_bytes_per_rank"], row["peak_bytes_expected"]);
  }
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

TEST_F(BenchStepTest, StepsAModelsOwnTensorsInBothLayouts) {
  const Ran ran =
      Run("bench step --comm threads --ranks 2 --model gpt2 --scale 1/12 "
          "--optimizer adam-mini --repetitions 2");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_EQ(ran.json.size(), 3u) << ran.json;
  for (const json& row : ran.json) {
    ExpectRow(row, 2, 0);
    EXPECT_EQ(row["model"], "gpt2/12");
    EXPECT_EQ(row["layers"], 1);
    // Embeddings of 4188 tokens and 1024 positions, a layer, and the last norm.
    EXPECT_EQ(row["parameters"], 768 * (4188 + 1024) + 7087872 + 2 * 768);
  }
  const json& by_cost = ran.json[0];
  EXPECT_EQ(by_cost["implementation"], "zeromini");
  EXPECT_EQ(ran.json[1]["implementation"], "zeromini, by padding");
  EXPECT_EQ(ran.json[1]["optimizer"], "adam-mini");
  EXPECT_GT(by_cost["copied_bytes_per_rank"], 0) << "columns are packed";
  const double ratio = by_cost["ratio_to_padding_layout"].get<double>();
  EXPECT_GT(ratio, 0);
  EXPECT_LE(by_cost["ratio_to_padding_layout_low"].get<double>(), ratio);
  EXPECT_GE(by_cost["ratio_to_padding_layout_high"].get<double>(), ratio);
  for (int i : {1, 2}) {
    EXPECT_FALSE(ran.json[i].contains("ratio_to_padding_layout"));
  }
  EXPECT_TRUE(ran.json[1].contains("ratio_to_baseline"));
  const Ran plan =
      Run("plan --ranks 2 --model gpt2 --scale 1/12 --optimizer adam-mini "
          "--bucketing layer --copy-cost 0.005 --buffer-budget 0");
  ASSERT_EQ(plan.exit_code, 0) << plan.error;
  for (const char* key : {"buckets", "in_place_fraction", "collectives"}) {
    EXPECT_EQ(ran.json[1][key], plan.json[0][key]) << key;
    EXPECT_NE(by_cost[key], plan.json[0][key]) << key;
  }
}

TEST_F(BenchStepTest, StepsTheLayoutByPaddingIfAndOnlyIfTold) {
  const struct {
    const char* flags;
    size_t rows;
  } kCases[] = {
      {"--params 128Ki", 2},
      {"--params 128Ki --padding-layout", 3},
      {"--model gpt2 --scale 1/12 --no-padding-layout", 2},
  };
  for (const auto& [flags, rows] : kCases) {
    const Ran ran = Run(absl::StrCat(
        "bench step --comm threads --repetitions 1 --optimizer adamw ", flags));
    ASSERT_EQ(ran.exit_code, 0) << flags << ran.error;
    EXPECT_EQ(ran.json.size(), rows) << flags;
  }
}

TEST_F(BenchStepTest, GathersEachLayerForwardAndBackAtStage3) {
  const Ran ran =
      Run("bench step --comm threads --ranks 2 --params 256Ki --layers 4 "
          "--repetitions 2 --stage 3");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ExpectRows(ran.json, 2, "threads-allreduce+adamw");
  for (int i : {0, 1}) {
    EXPECT_EQ(ran.json[i]["stage"], 3);
    // Gradients, scalars, weights for forward, and again for backward, but for
    // the last layer's.
    const int buckets = ran.json[i]["buckets"].get<int>();
    EXPECT_GT(ran.json[i]["collectives"], 2 * buckets + 1);
    EXPECT_LT(ran.json[i]["collectives"], 3 * buckets + 1);
    EXPECT_TRUE(ran.json[i]["inter_host_bound"].is_null());
  }
}

TEST_F(BenchStepTest, StepsTiedTensorsAtEveryStage) {
  for (int stage : {1, 2, 3}) {
    const Ran ran = Run(absl::StrCat(
        "bench step --comm threads --model gpt2 --scale 1/12 --repetitions 1 "
        "--optimizer adamw --no-padding-layout --clip 1 --stage ",
        stage));
    ASSERT_EQ(ran.exit_code, 0) << stage << ran.error;
    EXPECT_EQ(ran.json[0]["stage"], stage);
  }
}

TEST_F(BenchStepTest, SaysWhatALayoutTakes) {
  const Ran ran =
      Run("bench step --comm threads --ranks 2 --params 256Ki --repetitions 1");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  for (int i : {0, 1}) {
    const json& row = ran.json[i];
    EXPECT_EQ(row["stage"], 1);
    EXPECT_GT(row["buckets"], 0);
    // To and fro for each bucket, and the scalars.
    EXPECT_EQ(row["collectives"], 2 * row["buckets"].get<int>() + 1);
    EXPECT_GE(row["in_place_fraction"], 0);
    EXPECT_LE(row["in_place_fraction"], 1);
    EXPECT_GE(row["padding_fraction"], 0);
    EXPECT_GE(row["buffer_bytes"], 0);
    EXPECT_GE(row["copied_bytes_per_rank"], 0);
  }
  for (const char* key :
       {"stage", "buckets", "collectives", "buffer_bytes", "in_place_fraction",
        "padding_fraction", "copied_bytes_per_rank"}) {
    EXPECT_TRUE(ran.json[2][key].is_null()) << key;
  }
}

TEST_F(BenchStepTest, MeasuresWhatALayoutIsWeighedBy) {
  for (int ranks : {1, 2}) {
    const Ran ran = Run(absl::StrCat(
        "bench step --comm threads --params 128Ki --repetitions 1 --ranks ",
        ranks));
    ASSERT_EQ(ran.exit_code, 0) << ran.error;
    for (const json& row : ran.json) {
      for (const char* key : {"copy_cost", "collective_cost_bytes"}) {
        if (ranks == 1) {
          EXPECT_TRUE(row[key].is_null()) << key << " without a wire";
        } else {
          EXPECT_GT(row[key].get<double>(), 0) << key;
        }
      }
    }
  }
}

TEST_F(BenchStepTest, TakesTurnsWhereAllTogetherDoNotFit) {
  for (const bool fits : {true, false}) {
    const Ran ran = Run(absl::StrCat(
        "bench step --comm threads --ranks 2 --params 256Ki --repetitions 2 ",
        "--memory-budget ", fits ? "1GiB" : "12MiB"));
    ASSERT_EQ(ran.exit_code, 0) << ran.error;
    ExpectRows(ran.json, 2, "threads-allreduce+adamw");
    for (const json& row : ran.json) EXPECT_EQ(row["one_at_a_time"], !fits);
  }
}

TEST_F(BenchStepTest, RefusesWhatCannotFitBeforeItTakesMemory) {
  const Ran ran =
      Run("bench step --comm threads --ranks 2 --model llama-3-70b "
          "--memory-budget 100GiB");
  EXPECT_EQ(ran.exit_code, 1);
  EXPECT_THAT(ran.error, HasSubstr("GiB on a machine of 2 ranks, which has"));
  EXPECT_THAT(ran.error, HasSubstr("take a smaller --scale"));
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
        "--params 2Gi", "--params many", "--stage 4", "--optimizer lion",
        "--compute nap", "--compute-ms -1", "--clip -1", "--forward-share 1.5",
        "--repetitions 0", "--speed 1"}) {
    const Ran ran = Run(std::string("bench step --comm threads ") + flags);
    EXPECT_EQ(ran.exit_code, 2) << flags;
    EXPECT_FALSE(ran.error.empty()) << flags;
  }
}

TEST_F(BenchStepTest, SaysWhichFlagsOfAModelDoNotGoTogether) {
  const struct {
    const char* flags;
    const char* says;
  } kCases[] = {
      {"--model gpt2 --params 1Mi", "--model excludes --params"},
      {"--model gpt2 --layers 2", "--model excludes --layers"},
      {"--scale 1/2", "--scale requires --model"},
      {"--model gpt2 --scale 2", "--scale must be 1/k"},
      {"--model gpt2 --scale 1/13", "leaves none of gpt2's 12 layers"},
      {"--model gpt5", "unknown model"},
      {"--padding-layout --no-padding-layout", "excludes"},
  };
  for (const auto& [flags, says] : kCases) {
    const Ran ran = Run(absl::StrCat("bench step --comm threads ", flags));
    EXPECT_EQ(ran.exit_code, 2) << flags;
    EXPECT_THAT(ran.error, HasSubstr(says)) << flags;
  }
}

}  // namespace
}  // namespace zeromini
