#include <sys/resource.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "tools/report/run_record.h"
#include "tools/train/pretrain.h"
#include "train/small_run.h"

namespace zeromini::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;

TEST(TrainingTest, OurAdamWFollowsTorchAdamWFor100Steps) {
  const auto torch_losses = Train(SmallRun("torch-adamw", 100), 1).losses;
  for (int stage : {1, 2}) {
    PretrainOptions options = SmallRun("adamw", 100);
    options.stage = stage;
    const auto losses = Train(options, 1).losses;
    ASSERT_EQ(losses.size(), 100u);
    double largest = 0;
    for (size_t i = 0; i < losses.size(); ++i) {
      largest = std::max(largest, std::abs(losses[i] - torch_losses[i]));
    }
    EXPECT_LT(largest, 1e-4) << "stage " << stage;
    EXPECT_LT(losses.back(), losses.front() - 1);
  }
}

TEST(TrainingTest, RanksAndMicroStepsDoNotChangeTheOutcome) {
  const double alone = Train(SmallRun("adam-mini", 60), 1).validation_loss;
  for (int ranks : {2, 4}) {
    PretrainOptions options = SmallRun("adam-mini", 60);
    options.stage = ranks == 2 ? 2 : 1;
    EXPECT_NEAR(Train(options, ranks).validation_loss, alone, 2e-3) << ranks;
  }
  PretrainOptions options = SmallRun("adam-mini", 60);
  options.micro_steps = 4;
  EXPECT_NEAR(Train(options, 2).validation_loss, alone, 2e-3);
}

TEST(TrainingTest, FactoredSecondMomentsTrainAlikeOnTwoRanksAndHoldALittle) {
  PretrainOptions options = SmallRun("adam-mini", 60);
  const PretrainResult official = Train(options, 1);
  options.second_moment = "factored";
  const PretrainResult alone = Train(options, 1);
  EXPECT_LT(alone.losses.back(), alone.losses.front() - 1);
  EXPECT_NE(alone.validation_loss, official.validation_loss);
  EXPECT_LT(alone.memory.second_moment, alone.memory.momentum / 10);
  options.stage = 2;
  EXPECT_NEAR(Train(options, 2).validation_loss, alone.validation_loss, 2e-3);
}

TEST(TrainingTest, TrainsAGpt2) {
  const PretrainOptions options = SmallGpt2Run("adam-mini", 40);
  const PretrainResult result = Train(options, 2);
  EXPECT_LT(result.losses.back(), result.losses.front() - 1);
}

TEST(TrainingTest, AdamMiniHoldsHalfOfAdamWsState) {
  const auto mini = Train(SmallRun("adam-mini", 1), 1).memory;
  const auto adamw = Train(SmallRun("adamw", 1), 1).memory;
  EXPECT_NEAR(
      static_cast<double>(mini.state()) / static_cast<double>(adamw.state()),
      0.5, 0.02);
}

TEST(TrainingTest, RefusesWhatTheUnshardedReferenceCannotHonour) {
  using Change = std::function<void(PretrainOptions&)>;
  const std::vector<std::pair<const char*, Change>> changes = {
      {"--dtype", [](PretrainOptions& o) { o.dtype = "bf16"; }},
      {"--momentum", [](PretrainOptions& o) { o.momentum = "int8"; }},
      {"--master", [](PretrainOptions& o) { o.master = "none"; }},
      {"--stage 3", [](PretrainOptions& o) { o.stage = 3; }},
      {"--shard-group", [](PretrainOptions& o) { o.shard_group = 1; }},
      {"--clip-value", [](PretrainOptions& o) { o.clip_value = 1; }},
      {"--prefetch", [](PretrainOptions& o) { o.prefetch = 0; }}};
  for (const auto& [flag, change] : changes) {
    PretrainOptions options = SmallRun("torch-adamw", 1);
    change(options);
    RunRanks(1, [&, flag = flag](int, Communicator& group) {
      EXPECT_THAT(Pretrain(options, group),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr("torch-adamw"), HasSubstr(flag))));
    });
  }
}

TEST(TrainingTest, RefusesFlagsThatDoNotFitTogether) {
  PretrainOptions outside = SmallRun("adam-mini", 1);
  outside.stage = 3;
  outside.memory = "external";
  EXPECT_THAT(Complete(outside), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--memory must be flat")));
  PretrainOptions remainder = SmallRun("adam-mini", 1);
  remainder.master = "remainder16";
  EXPECT_THAT(Complete(remainder), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("--master remainder16")));
  PretrainOptions budget = SmallRun("adam-mini", 1);
  budget.gather_budget = 1 << 20;
  EXPECT_THAT(Complete(budget), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("--gather-budget")));
}

TEST(TrainingTest, Stage3HasTheLossesOfStage2BitForBit) {
  for (const bool gpt2 : {false, true}) {
    PretrainOptions options =
        gpt2 ? SmallGpt2Run("adam-mini", 5) : SmallRun("adam-mini", 5);
    options.micro_steps = 2;
    options.stage = 2;
    const PretrainResult two = Train(options, 2);
    options.stage = 3;
    const PretrainResult three = Train(options, 2);
    EXPECT_EQ(three.losses, two.losses) << "gpt2 " << gpt2;
    EXPECT_EQ(three.validation_loss, two.validation_loss) << "gpt2 " << gpt2;
  }
}

TEST(TrainingTest, TrainsInSixteenBitsAtStage3) {
  PretrainOptions options = SmallRun("adam-mini", 40);
  options.dtype = "bf16";
  options.master = "remainder16";
  options.momentum = "bf16";
  options.stage = 3;
  options.micro_steps = 2;
  options.clip = 1;
  ASSERT_OK(Complete(options));
  const PretrainResult result = Train(options, 2);
  EXPECT_LT(result.losses.back(), result.losses.front() - 1);
  EXPECT_GT(result.memory.master, 0);
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(options.out));
  EXPECT_EQ(run.dtype, "bf16");
  EXPECT_EQ(run.master, "remainder16");
  EXPECT_EQ(run.momentum, "bf16");
  EXPECT_EQ(run.stage, 3);
  EXPECT_EQ(run.micro_steps, 2);
}

TEST(TrainingTest, Fp16SkipsStepsUntilTheLossScaleFits) {
  PretrainOptions options = SmallGpt2Run("adam-mini", 30);
  options.dtype = "fp16";
  options.stage = 2;
  options.model.init_std = 1;  // Steep enough to overflow at first.
  ASSERT_OK(Complete(options));
  const PretrainResult result = Train(options, 2);
  EXPECT_LT(result.losses.back(), result.losses.front() - 1);
  std::ifstream file(options.out + "/metrics.jsonl");
  double expected = 65536;
  int skipped = 0;
  for (std::string line; std::getline(file, line);) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    if (!json.contains("loss_scale")) continue;
    EXPECT_EQ(json["loss_scale"].get<double>(), expected) << json["step"];
    if (!json["skipped"].get<bool>()) continue;
    expected /= 2;
    ++skipped;
  }
  EXPECT_GT(skipped, 0);
  EXPECT_LT(skipped, 16);
}

TEST(TrainingTest, LeavesMetricsWithTheAgreedKeys) {
  const PretrainOptions options = SmallRun("adam-mini", 3);
  Train(options, 2);
  std::ifstream file(options.out + "/metrics.jsonl");
  std::string line;
  int steps = 0, evaluations = 0;
  while (std::getline(file, line)) {
    const auto json = nlohmann::json::parse(line, nullptr, false);
    ASSERT_TRUE(json.is_object()) << line;
    if (json.contains("validation_loss")) {
      ++evaluations;
      continue;
    }
    ++steps;
    for (const char* key :
         {"step", "loss", "learning_rate", "grad_norm", "skipped",
          "tokens_per_second", "loss_scale", "bytes", "seconds"}) {
      EXPECT_TRUE(json.contains(key)) << key;
    }
    EXPECT_GT(json["bytes"]["gradients"].get<int64_t>(), 0);
  }
  EXPECT_EQ(steps, 3);
  EXPECT_EQ(evaluations, 2);
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(options.out));
  EXPECT_TRUE(run.finished);
  EXPECT_EQ(run.ranks, 2);
}

TEST(TrainingTest, BFloat16OnTheWireHalvesTheBytesAndTrainsAlmostTheSame) {
  const PretrainOptions exact = SmallRun("adam-mini", 60);
  PretrainOptions rounded = exact;
  rounded.out += "-rounded";
  rounded.gradient_wire = "bf16";
  rounded.weight_wire = "bf16";
  const double difference = std::abs(Train(exact, 2).validation_loss -
                                     Train(rounded, 2).validation_loss);
  EXPECT_LT(difference, 0.02);
  EXPECT_GT(difference, 0) << "nothing was rounded";
  ASSERT_OK_AND_ASSIGN(const RunRecord whole, ReadRun(exact.out));
  ASSERT_OK_AND_ASSIGN(const RunRecord half, ReadRun(rounded.out));
  for (const char* key : {"gradients", "weights"}) {
    EXPECT_EQ(2 * half.bytes.at(key), whole.bytes.at(key)) << key;
  }
  EXPECT_LT(half.bytes.at("inside_host"), 0.51 * whole.bytes.at("inside_host"));
}

TEST(TrainingTest, RefusesWireFormatsForTheUnshardedReference) {
  PretrainOptions options = SmallRun("torch-adamw", 1);
  options.weight_wire = "bf16";
  RunRanks(1, [&](int, Communicator& group) {
    EXPECT_THAT(Pretrain(options, group),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("--weight-wire bf16")));
  });
}

std::string Contents(const std::string& path) {
  std::ifstream file(path);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(TrainingTest, EachRankWritesItsFiguresWhereThePatternHasARank) {
  PretrainOptions options = SmallRun("adam-mini", 3);
  const std::string stem = testing::TempDir() + "/figures-";
  options.prometheus = stem + "{rank}.prom";
  Train(options, 2);
  for (const char* rank : {"0", "1"}) {
    const std::string labels =
        "{run=\"" + options.name + "\",rank=\"" + rank + "\"";
    EXPECT_THAT(Contents(stem + rank + ".prom"),
                AllOf(HasSubstr("zeromini_steps_total" + labels + "} 3\n"),
                      HasSubstr("zeromini_sent_bytes_total" + labels +
                                ",purpose=\"weights\"} ")));
  }
  options.prometheus = stem + "all.prom";
  Train(options, 2);
  EXPECT_THAT(Contents(stem + "all.prom"), HasSubstr("rank=\"0\"} 3\n"));
}

TEST(TrainingTest, AFileThatCannotBeWrittenIsNamedBeforeTheFirstStep) {
  PretrainOptions options = SmallRun("adam-mini", 1);
  options.prometheus = testing::TempDir() + "/no/such/folder/run.prom";
  RunRanks(2, [&](int rank, Communicator& group) {
    const auto result = Pretrain(options, group);
    EXPECT_FALSE(result.ok());
    if (rank == 0) {
      EXPECT_THAT(result, StatusIs(absl::StatusCode::kPermissionDenied,
                                   HasSubstr(options.prometheus)));
    }
  });
}

// Writes of this process fail past so many bytes of a file.
class ShortFiles {
 public:
  explicit ShortFiles(rlim_t bytes) : signal_(signal(SIGXFSZ, SIG_IGN)) {
    getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit limit = {bytes, before_.rlim_max};
    setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~ShortFiles() {
    setrlimit(RLIMIT_FSIZE, &before_);
    signal(SIGXFSZ, signal_);
  }

 private:
  void (*signal_)(int);
  rlimit before_ = {};
};

TEST(TrainingTest, EveryRankNamesTheFileThatRank0CannotWrite) {
  for (int stage : {1, 3}) {
    PretrainOptions options = SmallRun("adam-mini", 50);
    options.stage = stage;
    const ShortFiles limit(4000);
    RunRanks(2, [&](int rank, Communicator& group) {
      EXPECT_THAT(Pretrain(options, group),
                  StatusIs(absl::StatusCode::kResourceExhausted,
                           HasSubstr(options.out + "/metrics.jsonl")))
          << "rank " << rank << ", stage " << stage;
    });
  }
}

TEST(TrainingTest, ALargeLossIsReportedAsItIs) {
  PretrainOptions options = SmallRun("adam-mini", 1);
  options.model.init_std = 1e5;
  const PretrainResult result = Train(options, 2);
  EXPECT_GT(result.losses[0], 1e6);
  EXPECT_TRUE(std::isfinite(result.losses[0]));
  EXPECT_TRUE(std::isfinite(result.validation_loss));
}

TEST(TrainingTest, RanksOfOneRunMustBeToldTheSame) {
  using Change = std::function<void(PretrainOptions&)>;
  const std::string other = SomeText() + ".other";
  std::ofstream(other) << Contents(SomeText()).replace(70000, 1, "#");
  const std::vector<std::pair<const char*, Change>> changes = {
      {"seed is 2 on rank 1 but 1 on rank 0",
       [](PretrainOptions& o) { o.seed = 2; }},
      {"batch is 16 on rank 1 but 8 on rank 0",
       [](PretrainOptions& o) { o.batch = 16; }},
      {"length is 16 on rank 1", [](PretrainOptions& o) { o.length = 16; }},
      {"micro_steps is 2 on rank 1",
       [](PretrainOptions& o) { o.micro_steps = 2; }},
      {"memory is \"external\" on rank 1",
       [](PretrainOptions& o) { o.memory = "external"; }},
      {"learning_rate is 0.5 on rank 1",
       [](PretrainOptions& o) { o.schedule.peak = 0.5; }},
      {"steps is 2 on rank 1",
       [](PretrainOptions& o) { o.schedule.steps = 2; }},
      {"model.rope_theta is 500000.0 on rank 1",
       [](PretrainOptions& o) { o.model.rope_theta = 500000; }},
      {"text is ", [&](PretrainOptions& o) { o.data = other; }}};
  for (const auto& [difference, change] : changes) {
    const PretrainOptions options = SmallRun("adam-mini", 1);
    std::filesystem::remove_all(options.out);
    RunRanks(2, [&, difference = difference](int rank, Communicator& group) {
      PretrainOptions mine = options;
      if (rank == 1) change(mine);
      EXPECT_THAT(
          Pretrain(mine, group),
          StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(difference)))
          << "rank " << rank;
    });
    EXPECT_FALSE(std::filesystem::exists(options.out)) << difference;
  }
}

TEST(TrainingTest, AnEarlierRunStaysUntilItIsToBeOverwritten) {
  PretrainOptions options = SmallRun("adam-mini", 1);
  Train(options, 2);
  const std::string before = Contents(options.out + "/run.json");
  ASSERT_NE(before, "");
  options.overwrite = false;
  RunRanks(2, [&](int /*rank*/, Communicator& group) {
    EXPECT_THAT(
        Pretrain(options, group),
        StatusIs(absl::StatusCode::kAlreadyExists,
                 AllOf(HasSubstr(options.out), HasSubstr("--overwrite"))));
  });
  EXPECT_EQ(Contents(options.out + "/run.json"), before);
}

TEST(TrainingTest, ACopyThatCannotBeWrittenIsFoundBeforeTheFirstStep) {
  PretrainOptions options = SmallRun("adam-mini", 1);
  std::filesystem::remove_all(options.out);
  options.json = testing::TempDir() + "/no/such/folder/run.json";
  RunRanks(2, [&](int rank, Communicator& group) {
    EXPECT_THAT(Pretrain(options, group).status().message(),
                HasSubstr(options.json))
        << "rank " << rank;
  });
  EXPECT_FALSE(std::filesystem::exists(options.out + "/metrics.jsonl"));
}

TEST(TrainingTest, ARunUnderNamesThatAreNotUtf8IsRecorded) {
  PretrainOptions options = SmallRun("adam-mini", 1);
  options.out += "-\xFF";
  options.name.clear();
  options.json = options.out + ".json";
  const std::string text = testing::TempDir() + "/text-\xFE.txt";
  std::filesystem::copy_file(options.data, text,
                             std::filesystem::copy_options::overwrite_existing);
  options.data = text;
  ASSERT_OK(Complete(options));
  Train(options, 2);
  ASSERT_OK_AND_ASSIGN(const RunRecord run, ReadRun(options.out));
  EXPECT_TRUE(run.finished);
  EXPECT_THAT(run.name, HasSubstr("\xEF\xBF\xBD"));
  EXPECT_EQ(Contents(options.json), Contents(options.out + "/run.json"));
}

TEST(TrainingTest, RefusesTorchAdamWOnManyRanks) {
  const PretrainOptions options = SmallRun("torch-adamw", 1);
  RunRanks(2, [&](int rank, Communicator& group) {
    const auto result = Pretrain(options, group);
    EXPECT_FALSE(result.ok());
    if (rank == 0) {
      EXPECT_THAT(result, StatusIs(absl::StatusCode::kInvalidArgument,
                                   HasSubstr("torch-adamw")));
    }
  });
}

TEST(TrainingTest, EveryRankStopsWhenTheTextIsMissing) {
  PretrainOptions options = SmallRun("adam-mini", 1);
  options.data = "/no/such/text";
  RunRanks(2, [&](int rank, Communicator& group) {
    const auto result = Pretrain(options, group);
    EXPECT_FALSE(result.ok());
    if (rank == 0) {
      EXPECT_THAT(result, StatusIs(absl::StatusCode::kNotFound,
                                   HasSubstr("/no/such/text")));
    }
  });
}

}  // namespace
}  // namespace zeromini::tools
