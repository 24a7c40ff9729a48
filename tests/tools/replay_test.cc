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
#include "support/status_matchers.h"
#include "support/tensor_files.h"

namespace zeromini {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using testing::AllOf;
using testing::HasSubstr;

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

  Ran Run(const std::string& arguments) {
    const std::string error = dir_ + "/stderr";
    const int status = std::system(
        absl::StrCat(ZEROMINI_PROGRAM, " replay ", input_, " --out ", out_, " ",
                     arguments, " >", dir_, "/stdout 2>", error)
            .c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, Contents(error)};
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
