// The steps of official implementations, and of our own program where there is
// none, on every number of ranks.

#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <tuple>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "support/tensor_files.h"
#include "support/test_device.h"
#include "tools/replay_rank.h"

namespace zeromini {
namespace {

using tools::ReplayInput;
using tools::ReplayOptions;
using tools::StepFile;

// tests/golden/PROVENANCE.md says where these come from.
constexpr double kWeightTolerance = 6e-7;
constexpr double kStateTolerance = 1e-5;

constexpr char kGqa[] = "A_llama_gqa_hf";
constexpr char kWholeValue[] = "C_llama_mha_wv_empty";
constexpr char kAdamW[] = "E_adamw";
constexpr char kMissing[] = "G_missing_grads";
constexpr char kFactored[] = "I_factored";
constexpr char kFactoredFused[] = "J_factored_fused";

std::string GoldenDirectory(const std::string& name) {
  return std::string(ZEROMINI_GOLDEN_DIR) + "/" + name;
}

std::string FreshDirectory() {
  std::string path = testing::TempDir() + "golden_test.XXXXXX";
  EXPECT_NE(mkdtemp(path.data()), nullptr) << path;
  return path;
}

// A case that has weights and gradients of its own, or the folder of one that
// takes them from another as its meta.json says.
class GoldenCaseFolder {
 public:
  explicit GoldenCaseFolder(const std::string& name) {
    if (name != kFactored) {
      path_ = GoldenDirectory(name);
      return;
    }
    path_ = made_ = FreshDirectory();
    for (const std::string& from :
         {GoldenDirectory(kGqa), GoldenDirectory(name)}) {
      for (const auto& file : std::filesystem::directory_iterator(from)) {
        const std::string stem = file.path().filename();
        const bool given =
            absl::StartsWith(stem, "grads_") || stem == "params_00.safetensors";
        if (from == GoldenDirectory(name) || given) {
          std::filesystem::create_symlink(file.path(), path_ + "/" + stem);
        }
      }
    }
  }
  ~GoldenCaseFolder() {
    if (!made_.empty()) std::filesystem::remove_all(made_);
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  std::string made_;
};

class Replayed {
 public:
  Replayed(const ReplayOptions& options, int ranks) : out_(FreshDirectory()) {
    ReplayOptions chosen = options;
    chosen.out = out_;
    auto input = ReplayInput::Open(options.directory);
    EXPECT_OK(input);
    if (!input.ok()) return;
    steps_ = input->steps();
    RunRanks(ranks, [&](int, Communicator& group) {
      EXPECT_OK(tools::ReplayRank(*input, chosen, group,
                                  {MakeOptimizer, TestTensor}));
    });
  }
  ~Replayed() { std::filesystem::remove_all(out_); }

  int steps() const { return steps_; }
  std::string weights(int step) const { return StepFile(out_, "params", step); }
  std::string state() const { return StepFile(out_, "state", steps_); }

 private:
  const std::string out_;
  int steps_ = 0;
};

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file.good()) << path;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

using GoldenCase = std::tuple<const char*, int, int, MemoryForm>;

class GoldenTest : public testing::TestWithParam<GoldenCase> {};

TEST_P(GoldenTest, StaysWithTheOtherProgramInEveryStep) {
  const auto& [name, ranks, stage, memory] = GetParam();
  if (stage == 3 && memory == MemoryForm::kExternal) GTEST_SKIP() << "refused";
  const GoldenCaseFolder folder(name);
  ReplayOptions options;
  options.directory = folder.path();
  options.stage = stage;
  options.memory = memory;
  const Replayed replayed(options, ranks);
  ASSERT_EQ(replayed.steps(),
            absl::string_view(name) == kFactoredFused ? 5 : 10);
  int compared = 0;
  for (int step = 1; step <= replayed.steps(); ++step) {
    const std::string expected = StepFile(options.directory, "params", step);
    if (!std::filesystem::exists(expected)) continue;
    ++compared;
    ASSERT_OK_AND_ASSIGN(const TensorDifference difference,
                         CompareTensorFiles(replayed.weights(step), expected));
    EXPECT_LE(difference.absolute, kWeightTolerance)
        << "step " << step << ", " << difference.worst_tensor;
  }
  ASSERT_OK_AND_ASSIGN(
      const TensorDifference difference,
      CompareTensorFiles(replayed.state(), StepFile(options.directory, "state",
                                                    replayed.steps())));
  EXPECT_GE(compared, 3);
  EXPECT_LE(difference.relative, kStateTolerance) << difference.worst_tensor;
}

std::string CaseName(const testing::TestParamInfo<GoldenCase>& info) {
  const auto& [name, ranks, stage, memory] = info.param;
  return absl::StrCat(std::string(name).substr(0, 1), "_ranks", ranks, "_stage",
                      stage,
                      memory == MemoryForm::kFlat ? "_flat" : "_external");
}

INSTANTIATE_TEST_SUITE_P(
    All, GoldenTest,
    testing::Combine(testing::Values(kGqa, kWholeValue, kAdamW, kMissing,
                                     kFactored, kFactoredFused),
                     testing::Values(1, 2, 3, 5, 8), testing::Values(1, 2, 3),
                     testing::Values(MemoryForm::kExternal, MemoryForm::kFlat)),
    CaseName);

class GoldenBitsTest : public testing::TestWithParam<const char*> {};

// Clipping on: the first steps' norms are far above 1.
ReplayOptions DealtAndClipped(const GoldenCaseFolder& folder) {
  ReplayOptions options;
  options.directory = folder.path();
  options.split_gradients = true;
  options.clip = 1;
  return options;
}

void ExpectSameBits(const Replayed& a, const Replayed& b) {
  ASSERT_EQ(a.steps(), 10);
  for (int step = 1; step <= a.steps(); ++step) {
    EXPECT_EQ(Contents(a.weights(step)), Contents(b.weights(step))) << step;
  }
  EXPECT_EQ(Contents(a.state()), Contents(b.state()));
}

TEST_P(GoldenBitsTest, DoNotDependOnTheNumberOfRanks) {
  const GoldenCaseFolder folder(GetParam());
  ReplayOptions options = DealtAndClipped(folder);
  const Replayed alone(options, 1);
  for (const int ranks : {2, 3, 5, 8, 16}) {
    for (const int stage : {1, 2, 3}) {
      SCOPED_TRACE(absl::StrCat(ranks, " ranks, stage ", stage));
      options.stage = stage;
      options.memory = stage == 1 ? MemoryForm::kFlat : MemoryForm::kExternal;
      ExpectSameBits(Replayed(options, ranks), alone);
    }
  }
}

// Where every rank gets all of a gradient: a sum of at most five equal floats
// is rounded once, which powers of two need not even that; of six or more it
// may be off.
TEST_P(GoldenBitsTest, OfTheMeanAreThoseOfOneRankOnTwoAndFour) {
  const GoldenCaseFolder folder(GetParam());
  ReplayOptions options;
  options.directory = folder.path();
  const Replayed alone(options, 1);
  for (const int ranks : {2, 4}) {
    SCOPED_TRACE(absl::StrCat(ranks, " ranks"));
    ExpectSameBits(Replayed(options, ranks), alone);
  }
}

TEST_P(GoldenBitsTest, DoNotDependOnReplicas) {
  const GoldenCaseFolder folder(GetParam());
  ReplayOptions options = DealtAndClipped(folder);
  const Replayed alone(options, 1);
  options.shard_ranks = 2;
  for (const int stage : {1, 2, 3}) {
    SCOPED_TRACE(absl::StrCat("stage ", stage));
    options.stage = stage;
    ExpectSameBits(Replayed(options, 4), alone);
  }
}

TEST_P(GoldenBitsTest, DoNotDependOnBuckets) {
  const GoldenCaseFolder folder(GetParam());
  ReplayOptions options = DealtAndClipped(folder);
  const Replayed alone(options, 1);
  options.layout.bucket_bytes = 4096;
  ExpectSameBits(Replayed(options, 3), alone);
  options.layout.bucketing = Bucketing::kByLayer;
  ExpectSameBits(Replayed(options, 3), alone);
  options.layout.blocks = BlockCuts::kSplitAtCuts;
  ExpectSameBits(Replayed(options, 3), alone);
}

TEST_P(GoldenBitsTest, AreTheSameRunToRun) {
  const GoldenCaseFolder folder(GetParam());
  ReplayOptions options;
  options.directory = folder.path();
  options.stage = 2;
  const std::string first = Contents(Replayed(options, 5).state());
  EXPECT_EQ(Contents(Replayed(options, 5).state()), first);
}

std::string Letter(const testing::TestParamInfo<const char*>& param) {
  return std::string(param.param).substr(0, 1);
}
INSTANTIATE_TEST_SUITE_P(All, GoldenBitsTest,
                         testing::Values(kGqa, kWholeValue, kAdamW, kMissing,
                                         kFactored),
                         Letter);

TEST(GoldenClippingTest, ChangesTheWeights) {
  ReplayOptions options = DealtAndClipped(GoldenCaseFolder(kGqa));
  const Replayed clipped(options, 2);
  options.clip = 0;
  const Replayed free(options, 2);
  EXPECT_NE(Contents(clipped.weights(1)), Contents(free.weights(1)));
}

}  // namespace
}  // namespace zeromini
