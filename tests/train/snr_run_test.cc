#include "tools/train/snr_run.h"

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "train/small_run.h"

namespace zeromini::tools {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

SnrOptions SmallSnr(PretrainOptions run) {
  SnrOptions options;
  options.run = std::move(run);
  const std::string stem =
      testing::TempDir() + "/snr-" +
      testing::UnitTest::GetInstance()->current_test_info()->name();
  options.json = stem + ".json";
  options.html = stem + ".html";
  options.overwrite = true;  // What the same test left an hour ago.
  return options;
}

SharingRecord MeasureOn(int ranks, const SnrOptions& options) {
  SharingRecord record;
  RunRanks(ranks, [&](int rank, Communicator& group) {
    auto measured = MeasureSharing(options, group);
    ASSERT_OK(measured);
    if (rank == 0) record = *std::move(measured);
  });
  return record;
}

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

TEST(SnrRunTest, MeasuresEveryFewStepsAndTheLast) {
  SnrOptions options = SmallSnr(SmallRun("adamw", 7));
  options.every = 3;
  ASSERT_OK(Complete(options));
  const SharingRecord record = MeasureOn(1, options);
  EXPECT_THAT(record.steps, ElementsAre(3, 6, 7));
  for (const PartSeries& series : record.parts) {
    EXPECT_EQ(series.snr.size(), 3u) << series.part.name;
    EXPECT_GT(series.snr[2][SharedForm::kWhole], 0) << series.part.name;
  }
  // 9 tensors a layer, embedding, last norm and head.
  EXPECT_EQ(record.parts.size(), 2 * 9 + 3u);
}

TEST(SnrRunTest, TwoRanksMeasureWhatOneDoes) {
  SnrOptions options = SmallSnr(SmallGpt2Run("adamw", 6));
  options.every = 6;
  ASSERT_OK(Complete(options));
  const SharingRecord one = MeasureOn(1, options);
  const SharingRecord two = MeasureOn(2, options);
  ASSERT_EQ(two.parts.size(), one.parts.size());
  for (size_t p = 0; p < one.parts.size(); ++p) {
    for (SharedForm form : {SharedForm::kWhole, SharedForm::kRow,
                            SharedForm::kColumn, SharedForm::kFactored}) {
      const MomentPart& part = one.parts[p].part;
      if (!HasForm(ViewOf(part, nullptr), form)) continue;
      const double alone = one.parts[p].snr[0][form];
      EXPECT_NEAR(two.parts[p].snr[0][form], alone, 1e-2 * alone)
          << part.name << " " << SharedFormName(form);
    }
  }
}

TEST(SnrRunTest, HeadsOfAFusedTensorAreMeasuredPerPart) {
  SnrOptions options = SmallSnr(SmallGpt2Run("adamw", 4));
  ASSERT_OK(Complete(options));
  const SharingRecord record = MeasureOn(2, options);
  const nlohmann::json json = nlohmann::json::parse(Contents(options.json));
  int heads = 0;
  for (const auto& tensor : json["tensors"]) {
    if (tensor["role"] != "fused-qkv") continue;
    const bool has_heads = tensor["snr"].contains("head");
    EXPECT_EQ(has_heads, tensor["part"] != "value") << tensor["name"];
    if (!has_heads) continue;
    ++heads;
    EXPECT_EQ(tensor["rows_per_head"], 8);
    EXPECT_GT(tensor["snr"]["head"][3], 0);
  }
  EXPECT_EQ(heads, 4);  // Query and key of 2 layers.
  EXPECT_EQ(json["steps"].size(), record.steps.size());
  EXPECT_EQ(json["training_losses"].size(), 4u);
  EXPECT_THAT(Contents(options.html), HasSubstr("[query]"));
}

TEST(SnrRunTest, TrainsAsPretrainDoes) {
  PretrainOptions run = SmallRun("adamw", 5);
  const auto losses = Train(run, 1).losses;
  SnrOptions options = SmallSnr(run);
  ASSERT_OK(Complete(options));
  MeasureOn(1, options);
  const nlohmann::json json = nlohmann::json::parse(Contents(options.json));
  EXPECT_EQ(json["training_losses"], nlohmann::json(losses));
}

TEST(SnrRunTest, AFileThatIsThereStaysAndNothingIsTrained) {
  SnrOptions options = SmallSnr(SmallRun("adamw", 1000000));
  options.overwrite = false;
  ASSERT_OK(Complete(options));
  std::ofstream(options.html) << "earlier";
  RunRanks(2, [&](int, Communicator& group) {
    EXPECT_THAT(
        MeasureSharing(options, group),
        StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("--overwrite")));
  });
  EXPECT_EQ(Contents(options.html), "earlier");
  EXPECT_FALSE(std::filesystem::exists(options.json));
}

TEST(SnrRunTest, RanksThatMeasureAtOtherStepsAreRefused) {
  SnrOptions options = SmallSnr(SmallRun("adamw", 10));
  RunRanks(2, [&](int rank, Communicator& group) {
    SnrOptions mine = options;
    mine.every = rank + 2;
    ASSERT_OK(Complete(mine));
    EXPECT_THAT(MeasureSharing(mine, group),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("every is 3 on rank 1 but 2 on rank 0")));
  });
}

TEST(SnrRunTest, RefusesWhatCannotBeMeasured) {
  SnrOptions options = SmallSnr(SmallRun("adamw", 10));
  options.every = 11;
  EXPECT_THAT(Complete(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("--every")));
  options.every = 0;
  for (double threshold : {0.0, -1.0, std::numeric_limits<double>::infinity(),
                           std::numeric_limits<double>::quiet_NaN()}) {
    options.threshold = threshold;
    EXPECT_THAT(Complete(options), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("--threshold")));
  }
}

}  // namespace
}  // namespace zeromini::tools
