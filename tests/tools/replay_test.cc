// The zeromini program's replay, as a user runs it.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "support/tensor_files.h"
#include "tools/replay_rank.h"

namespace zeromini {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

struct Ran {
  int exit_code = -1;
  std::string error;  // What it wrote to stderr.
};

std::string Contents(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(file), {});
}

class ReplayTest : public testing::Test {
 protected:
  ReplayTest() {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
    for (const auto& file : fs::directory_iterator(
             std::string(ZEROMINI_GOLDEN_DIR) + "/G_missing_grads")) {
      fs::copy_file(file, input_ + file.path().filename().string());
    }
  }
  ~ReplayTest() override { fs::remove_all(dir_); }

  Ran Run(const std::string& arguments) { return RunTo(out_, arguments); }

  Ran RunTo(const std::string& out, const std::string& arguments) {
    const std::string error = dir_ + "/stderr";
    const int status = std::system(
        absl::StrCat(ZEROMINI_PROGRAM, " replay ", input_, " --out ", out, " ",
                     arguments, " >", dir_, "/stdout 2>", error)
            .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, Contents(error)};
  }

  std::string Name() const { return fs::path(dir_).filename().string(); }

  // Of a tensor's first byte, from the file's.
  static int64_t DataOffset(const std::string& path, const std::string& name) {
    const auto file = SafetensorsReader::Open(path);
    EXPECT_OK(file);
    int64_t at = static_cast<int64_t>(fs::file_size(path));
    for (const TensorInfo& tensor : (*file)->tensors()) at -= tensor.bytes();
    return at + (*file)->Find(name)->offset;
  }

  json Meta() {
    return json::parse(Contents(input_ + "meta.json"), nullptr, false);
  }
  void SetMeta(const json& meta) {
    std::ofstream(input_ + "meta.json") << meta.dump();
  }

  // Exit 2, and one line that holds `file` and `what`.
  void ExpectRefusal(const std::string& file, const std::string& what) {
    for (const char* ranks : {"1", "3"}) {
      if (fs::is_directory(out_)) fs::remove_all(out_);
      const Ran ran = Run(absl::StrCat("--ranks ", ranks));
      EXPECT_EQ(ran.exit_code, 2) << ran.error;
      EXPECT_THAT(ran.error, AllOf(HasSubstr(file), HasSubstr(what)));
      EXPECT_EQ(std::count(ran.error.begin(), ran.error.end(), '\n'), 1)
          << ran.error;
    }
  }

  const std::string dir_ =
      testing::TempDir() + "replay_test." + std::to_string(getpid());
  const std::string input_ = dir_ + "/";
  const std::string out_ = dir_ + "/out";
};

TEST_F(ReplayTest, NeedsNoneOfTheFactsItMustWorkOut) {
  json meta = Meta();
  for (json& param : meta["parameters"]) {
    for (const char* key :
         {"class", "weight_decay", "n_blocks", "block_numel", "steps_taken",
          "official_m_shape", "official_vmean_shape"}) {
      param.erase(key);
    }
  }
  meta.erase("absent_grads");
  SetMeta(meta);
  const Ran ran = Run("--ranks 3 --stage 2 --json " + dir_ + "/summary");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  for (const char* stem : {"params_01", "params_05", "params_10"}) {
    const std::string name = std::string("/") + stem + ".safetensors";
    ASSERT_OK_AND_ASSIGN(const auto difference,
                         CompareTensorFiles(out_ + name, input_ + name));
    EXPECT_LE(difference.absolute, 6e-7) << stem;
  }
  ASSERT_OK_AND_ASSIGN(const auto state,
                       CompareTensorFiles(out_ + "/state_10.safetensors",
                                          input_ + "state_10.safetensors"));
  EXPECT_LE(state.relative, 1e-5) << state.worst_tensor;
  const json summary = json::parse(Contents(dir_ + "/summary"), nullptr, false);
  EXPECT_EQ(summary["ranks"], 3);
  EXPECT_EQ(summary["grad_norms"].size(), 10u);
}

// By the flag, and by meta.json: the same weights, and averages in the state.
TEST_F(ReplayTest, FactorsSecondMomentsIfTold) {
  const std::string by_flag = dir_ + "/by_flag";
  const Ran flag = RunTo(by_flag, "--second-moment factored --ranks 2");
  ASSERT_EQ(flag.exit_code, 0) << flag.error;
  json meta = Meta();
  meta["optimizer"] = "factored";
  SetMeta(meta);
  const Ran told = Run("--ranks 2 --stage 2");
  ASSERT_EQ(told.exit_code, 0) << told.error;
  for (const char* file : {"/params_10.safetensors", "/state_10.safetensors"}) {
    EXPECT_EQ(Contents(by_flag + file), Contents(out_ + file)) << file;
  }
  EXPECT_NE(Contents(out_ + "/params_10.safetensors"),
            Contents(input_ + "params_10.safetensors"));
  ASSERT_OK_AND_ASSIGN(const auto state,
                       SafetensorsReader::Open(out_ + "/state_10.safetensors"));
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const TensorInfo* momentum = state->Find("m/" + name);
  ASSERT_NE(momentum, nullptr);
  for (const auto& [key, dimension] : {std::pair("r/", 0), {"c/", 1}}) {
    const TensorInfo* averages = state->Find(key + name);
    ASSERT_NE(averages, nullptr) << key;
    EXPECT_THAT(averages->shape,
                testing::ElementsAre(momentum->shape[dimension]));
  }
  EXPECT_EQ(state->Find("vmean/" + name), nullptr);
  EXPECT_NE(state->Find("v/model.norm.weight"), nullptr);
}

TEST_F(ReplayTest, AFlagOverrulesWhatMetaSaysOfSecondMoments) {
  json meta = Meta();
  meta["optimizer"] = "factored";
  SetMeta(meta);
  const Ran ran = Run("--second-moment official");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_OK_AND_ASSIGN(const auto difference,
                       CompareTensorFiles(out_ + "/params_10.safetensors",
                                          input_ + "params_10.safetensors"));
  EXPECT_LE(difference.absolute, 6e-7);
}

TEST_F(ReplayTest, ARecordingOfAdamWTakesNoFormOfSecondMoments) {
  json meta = Meta();
  meta["optimizer"] = "adamw";
  SetMeta(meta);
  for (const char* form : {"official", "factored"}) {
    const Ran ran = Run(absl::StrCat("--second-moment ", form));
    EXPECT_EQ(ran.exit_code, 2) << form;
    EXPECT_THAT(ran.error, HasSubstr("this recording is adamw's"));
  }
}

TEST_F(ReplayTest, RefusesATruncatedGradient) {
  const std::string path = input_ + "grads_07.safetensors";
  fs::resize_file(path, fs::file_size(path) - 5);
  ExpectRefusal("grads_07.safetensors",
                "model.layers.1.self_attn.v_proj.weight");
}

TEST_F(ReplayTest, RefusesAMissingStep) {
  fs::remove(input_ + "grads_04.safetensors");
  ExpectRefusal("grads_04.safetensors", "cannot be opened");
}

TEST_F(ReplayTest, RefusesAGradientOfAnotherShape) {
  json meta = Meta();
  meta["parameters"][0]["shape"] = {32, 50};
  SetMeta(meta);
  ExpectRefusal("params_00.safetensors", "model.embed_tokens.weight");
}

TEST_F(ReplayTest, RefusesAGradientThatIsNotFinite) {
  const std::string path = input_ + "grads_03.safetensors";
  int64_t at = 0;
  {
    const auto file = SafetensorsReader::Open(path);
    ASSERT_OK(file);
    at = fs::file_size(path);
    for (const TensorInfo& tensor : (*file)->tensors()) at -= tensor.bytes();
    at += (*file)->Find("model.layers.1.mlp.up_proj.weight")->offset;
  }
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(at + 400).write("\0\0\xc0\x7f", 4);
  file.close();
  ExpectRefusal("grads_03.safetensors", "model.layers.1.mlp.up_proj.weight");
}

TEST_F(ReplayTest, EveryRankLearnsWhichGradientOneRankCannotRead) {
  const std::string other = dir_ + "/other";
  fs::create_directories(other);
  for (const auto& file : fs::directory_iterator(input_)) {
    if (file.is_regular_file()) {
      fs::copy_file(file, fs::path(other) / file.path().filename());
    }
  }
  tools::ReplayOptions options;
  options.stage = 2;
  options.out = out_;
  const auto good = tools::ReplayInput::Open(input_);
  const auto bad = tools::ReplayInput::Open(other);
  ASSERT_OK(good);
  ASSERT_OK(bad);
  // The last layer's gradients still reach their reduction.
  const std::string path = other + "/grads_03.safetensors";
  fs::resize_file(path, static_cast<uintmax_t>(DataOffset(
                            path, "model.layers.1.mlp.up_proj.weight")));
  RunRanks(2, [&](int rank, Communicator& group) {
    EXPECT_THAT(
        tools::ReplayRank(rank == 0 ? *good : *bad, options, group).status(),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path)))
        << "rank " << rank;
  });
}

TEST_F(ReplayTest, RefusesAParameterListedTwice) {
  json meta = Meta();
  meta["parameters"].push_back(meta["parameters"][3]);
  SetMeta(meta);
  ExpectRefusal("meta.json", "model.layers.0.self_attn.v_proj.weight");
}

TEST_F(ReplayTest, RefusesAnOptimizerItDoesNotHave) {
  json meta = Meta();
  meta["optimizer"] = "galore_adamw";
  SetMeta(meta);
  ExpectRefusal("meta.json", "galore_adamw");
}

TEST_F(ReplayTest, RefusesToTrainNothing) {
  json meta = Meta();
  for (json& parameter : meta["parameters"]) {
    parameter["requires_grad"] = false;
  }
  SetMeta(meta);
  for (const auto& file : fs::directory_iterator(dir_)) {
    if (file.path().filename().string().rfind("grads_", 0) != 0) continue;
    std::ofstream(file.path()) << std::string("\2\0\0\0\0\0\0\0{}", 10);
  }
  ExpectRefusal("meta.json", "every parameter is frozen");
}

TEST_F(ReplayTest, TakesATimeoutThatIsOne) {
  EXPECT_EQ(Run("--timeout 2.5 --ranks 2").exit_code, 0);
  for (const char* bad : {"0", "-1", "nan", "inf", "1e9", "soon"}) {
    const Ran ran = Run(absl::StrCat("--timeout ", bad));
    EXPECT_EQ(ran.exit_code, 2) << bad;
    EXPECT_THAT(ran.error, HasSubstr("--timeout")) << bad;
  }
}

TEST_F(ReplayTest, RefusesMetaOfTheWrongTypes) {
  const json good = Meta();
  for (const char* key :
       {"optimizer", "hyperparameters", "lr_per_step", "parameters"}) {
    for (const json& bad :
         {json(), json(3), json("x"), json::array({json()})}) {
      json meta = good;
      meta[key] = bad;
      SetMeta(meta);
      const Ran ran = Run("");
      EXPECT_EQ(ran.exit_code, 2) << key << " = " << bad;
      EXPECT_THAT(ran.error, HasSubstr("meta.json")) << key << " = " << bad;
    }
  }
  std::ofstream(input_ + "meta.json") << "{\"optimizer\":";
  EXPECT_EQ(Run("").exit_code, 2);
}

TEST_F(ReplayTest, RefusesAnOutputItCannotWrite) {
  std::ofstream(out_) << "a file";
  ExpectRefusal(out_, "cannot be created");
}

TEST_F(ReplayTest, NeverWritesToTheRecordingsFolder) {
  const std::string answers = Contents(input_ + "params_05.safetensors");
  fs::create_directory_symlink(dir_, dir_ + ".link");
  for (const std::string& out :
       {dir_, input_ + "../" + Name(), dir_ + ".link"}) {
    for (const char* more : {"", " --overwrite"}) {
      const Ran ran = RunTo(out, more);
      EXPECT_EQ(ran.exit_code, 2) << out;
      EXPECT_THAT(ran.error, HasSubstr("the recording's own folder"));
    }
  }
  fs::remove(dir_ + ".link");
  EXPECT_EQ(Contents(input_ + "params_05.safetensors"), answers);
}

TEST_F(ReplayTest, RefusesAnOutputFolderWithOtherFiles) {
  fs::create_directories(out_);
  fs::copy_file(input_ + "grads_01.safetensors",
                out_ + "/grads_01.safetensors");
  fs::copy_file(input_ + "params_01.safetensors",
                out_ + "/params_01.safetensors");
  for (const char* more : {"", "--overwrite"}) {
    const Ran ran = Run(more);
    EXPECT_EQ(ran.exit_code, 2);
    EXPECT_THAT(ran.error, AllOf(HasSubstr(out_), HasSubstr("grads_01")));
  }
  EXPECT_EQ(Contents(out_ + "/params_01.safetensors"),
            Contents(input_ + "params_01.safetensors"));
}

TEST_F(ReplayTest, OverwritesAnEarlierReplayOnlyWhenTold) {
  const std::string summary = " --json " + out_ + "/summary.json";
  ASSERT_EQ(Run(summary).exit_code, 0);
  const std::string first = Contents(out_ + "/params_10.safetensors");
  std::ofstream(out_ + "/params_11.safetensors.partial-0") << "killed";
  const Ran again = Run(summary + " --clip 0.1");
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.error,
              AllOf(HasSubstr("an earlier run"), HasSubstr("--overwrite")));
  EXPECT_EQ(Contents(out_ + "/params_10.safetensors"), first);
  ASSERT_EQ(Run(summary + " --clip 0.1 --overwrite").exit_code, 0);
  EXPECT_NE(Contents(out_ + "/params_10.safetensors"), first);
  EXPECT_FALSE(fs::exists(out_ + "/params_11.safetensors.partial-0"));
}

TEST_F(ReplayTest, TwoAtOnceIntoOneFolderDoNotBothSayThatAllIsWell) {
  const std::string one = absl::StrCat(ZEROMINI_PROGRAM, " replay ", input_,
                                       " --ranks 3 --out ", out_);
  const int status =
      std::system(absl::StrCat("{ ", one, " 2>", dir_, "/stderr; echo $? >",
                               dir_, "/first; } & ", one, " 2>>", dir_,
                               "/stderr; echo $? >", dir_, "/second; wait")
                      .c_str());
  EXPECT_EQ(status, 0);
  const std::string codes =
      Contents(dir_ + "/first") + Contents(dir_ + "/second");
  EXPECT_TRUE(codes == "0\n2\n" || codes == "2\n0\n") << codes;
  EXPECT_THAT(Contents(dir_ + "/stderr"), HasSubstr(out_));
}

TEST_F(ReplayTest, RefusesWeightsThatAreNotFinite) {
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  const std::string good = Contents(input_ + "params_00.safetensors");
  for (const char* bits : {"\x00\x00\xc0\x7f", "\x00\x00\x80\xff"}) {
    const std::string path = input_ + "params_00.safetensors";
    std::ofstream(path, std::ios::binary) << good;
    const int64_t at = DataOffset(path, name) + 400;
    std::fstream(path, std::ios::in | std::ios::out | std::ios::binary)
        .seekp(at)
        .write(bits, 4);
    ExpectRefusal("params_00.safetensors", name + "\": element 100 is ");
  }
}

TEST_F(ReplayTest, RefusesRatesThatAreNegativeOrNoFloats) {
  for (const char* rate : {"-0.001", "1e39", "null", "\"x\"", "-1e-300"}) {
    json meta = Meta();
    meta["lr_per_step"][3] = json::parse(rate);
    SetMeta(meta);
    ExpectRefusal("meta.json", "\"lr_per_step\" holds");
  }
}

TEST_F(ReplayTest, RefusesAKeyThatMetaListsTwice) {
  std::string text = Contents(input_ + "meta.json");
  text.insert(text.find('{') + 1, "\"optimizer\":\"adamw\",");
  std::ofstream(input_ + "meta.json") << text;
  ExpectRefusal("meta.json", "key \"optimizer\": is listed twice");
}

TEST_F(ReplayTest, RefusesMetaThatIsFollowedByANul) {
  std::ofstream(input_ + "meta.json", std::ios::app) << '\0' << "garbage";
  ExpectRefusal("meta.json", "has a NUL byte");
}

TEST_F(ReplayTest, StepsAScalarAndLooksPastOtherElementTypes) {
  const float scalar = 0.5f;
  const float gradient = 0.25f;
  const int32_t counter = 7;
  json meta = Meta();
  meta["lr_per_step"] = {0.1};
  meta["parameters"] = {{{"name", "logit_scale"}, {"shape", json::array()}}};
  SetMeta(meta);
  ASSERT_OK(WriteSafetensors(input_ + "params_00.safetensors",
                             {{"logit_scale", TensorFormat::kF32, {}, &scalar},
                              {"step", TensorFormat::kI32, {}, &counter}}));
  ASSERT_OK(
      WriteSafetensors(input_ + "grads_01.safetensors",
                       {{"logit_scale", TensorFormat::kF32, {}, &gradient},
                        {"step", TensorFormat::kI32, {}, &counter}}));
  const Ran ran = Run("--ranks 2");
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  ASSERT_OK_AND_ASSIGN(
      const auto weights,
      SafetensorsReader::Open(out_ + "/params_01.safetensors"));
  ASSERT_OK_AND_ASSIGN(const auto value, weights->ReadF32("logit_scale", {}));
  // The first step is the rate's size, whatever the gradient's.
  EXPECT_NEAR(value[0], 0.4f, 0.1f * 0.1f * 0.5f + 1e-6f);
  ASSERT_OK_AND_ASSIGN(const auto state,
                       SafetensorsReader::Open(out_ + "/state_01.safetensors"));
  EXPECT_OK(state->ReadF32("m/logit_scale", {}));
}

TEST_F(ReplayTest, ShowsNoEscapeSequenceOfAFileName) {
  const Ran ran = Run("'--spe\x1b[31med'");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error,
              AllOf(HasSubstr("--spe\\x1b[31med"), Not(HasSubstr("\x1b"))));
  std::ofstream(dir_ + "/\x1b[31mred") << "a file";
  const Ran refused = RunTo("'" + dir_ + "/\x1b[31mred'", "");
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_THAT(refused.error,
              AllOf(HasSubstr("\\x1b[31mred"), Not(HasSubstr("\x1b"))));
}

TEST_F(ReplayTest, RefusesUnevenShardGroupsAndUnknownFlags) {
  const Ran uneven = Run("--stage 3 --ranks 3 --shard-group 2");
  EXPECT_EQ(uneven.exit_code, 2);
  EXPECT_THAT(uneven.error,
              HasSubstr("shard_ranks 2 does not divide the 3 ranks"));
  EXPECT_EQ(Run("--stage 4").exit_code, 2);
  EXPECT_EQ(Run("--speed 4").exit_code, 2);
  EXPECT_EQ(Run("--comm carrier-pigeon").exit_code, 2);
}

}  // namespace
}  // namespace zeromini
