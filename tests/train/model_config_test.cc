#include "tools/train/model_config.h"

#include <filesystem>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "support/status_matchers.h"

namespace zeromini::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string WriteConfig(const std::string& text) {
  const auto* test = testing::UnitTest::GetInstance()->current_test_info();
  const std::string path =
      testing::TempDir() + "/" + test->name() + ".config.json";
  std::ofstream(path) << text;
  return path;
}

constexpr char kLlama[] = R"({"model_type": "llama", "hidden_size": 64,
  "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
  "intermediate_size": 160, "vocab_size": 300, "rms_norm_eps": 1e-6,
  "rope_theta": 500000.0, "tie_word_embeddings": true,
  "max_position_embeddings": 512})";

TEST(ModelConfigTest, ReadsALlama) {
  ASSERT_OK_AND_ASSIGN(const ModelConfig config,
                       ReadHfConfig(WriteConfig(kLlama)));
  EXPECT_EQ(config.architecture, Architecture::kLlama);
  EXPECT_EQ(config.hidden, 64);
  EXPECT_EQ(config.kv_heads, 2);
  EXPECT_EQ(config.head_dim, 8);
  EXPECT_EQ(config.context, 512);
  EXPECT_DOUBLE_EQ(config.rope_theta, 500000);
  EXPECT_TRUE(config.tied_head);
}

TEST(ModelConfigTest, AFolderStandsForTheConfigInIt) {
  const std::string folder = testing::TempDir() + "/model_folder";
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/config.json") << kLlama;
  ASSERT_OK_AND_ASSIGN(const ModelConfig config, ReadHfConfig(folder));
  EXPECT_EQ(config.hidden, 64);
}

TEST(ModelConfigTest, ReadsAGpt2AndDerivesItsMlp) {
  ASSERT_OK_AND_ASSIGN(
      const ModelConfig config,
      ReadHfConfig(WriteConfig(R"({"model_type": "gpt2", "n_embd": 48,
        "n_layer": 3, "n_head": 4, "vocab_size": 256, "n_positions": 64,
        "n_inner": null})")));
  EXPECT_EQ(config.architecture, Architecture::kGpt2);
  EXPECT_EQ(config.ffn, 192);
  EXPECT_EQ(config.kv_heads, 4);
  EXPECT_TRUE(config.tied_head);
}

TEST(ModelConfigTest, NamesTheFileAndTheMissingKey) {
  const std::string path = WriteConfig(
      R"({"model_type": "llama", "hidden_size": 64, "vocab_size": 256})");
  EXPECT_THAT(ReadHfConfig(path),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr(path),
                             HasSubstr("'num_hidden_layers' is missing"))));
}

TEST(ModelConfigTest, NamesTheKeyOfAWrongType) {
  for (const char* value : {"\"64\"", "-4", "6.5", "1e30", "[64]"}) {
    const std::string path = WriteConfig(
        std::string(R"({"model_type": "gpt2", "n_layer": 1, "n_head": 1,
          "vocab_size": 256, "n_embd": )") +
        value + "}");
    EXPECT_THAT(ReadHfConfig(path),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("'n_embd' must be a whole number")))
        << value;
  }
}

TEST(ModelConfigTest, RefusesWhatIsNoJson) {
  for (const char* text : {"", "{", "[]", "{\"model_type\": }", "7"}) {
    EXPECT_THAT(ReadHfConfig(WriteConfig(text)),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("RefusesWhatIsNoJson")))
        << text;
  }
}

TEST(ModelConfigTest, RefusesAnUnknownFamily) {
  EXPECT_THAT(ReadHfConfig(WriteConfig(R"({"model_type": "mamba"})")),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("model_type"), HasSubstr("mamba"))));
}

TEST(ModelConfigTest, RefusesHeadsThatDoNotFit) {
  ModelConfig config;
  config.hidden = 100;
  config.heads = 3;
  EXPECT_THAT(Complete(config),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("100")));
  config.hidden = 96;
  config.kv_heads = 2;
  EXPECT_THAT(Complete(config), StatusIs(absl::StatusCode::kInvalidArgument,
                                         HasSubstr("key/value")));
}

TEST(ModelConfigTest, NamesTheSizeThatNoModelHas) {
  for (int64_t size : {int64_t{-8}, int64_t{1} << 40}) {
    ModelConfig config;
    config.head_dim = size;
    EXPECT_THAT(Complete(config),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("head size"),
                               HasSubstr(std::to_string(size)))));
    config = ModelConfig();
    config.layers = size;
    EXPECT_THAT(Complete(config), StatusIs(absl::StatusCode::kInvalidArgument,
                                           HasSubstr("layers is")));
  }
  ModelConfig config;
  config.hidden = 2'000'000'000;
  EXPECT_THAT(Complete(config),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("2^40")));
}

TEST(ModelConfigTest, DefaultIsAboutAMillionParameters) {
  ASSERT_OK_AND_ASSIGN(ModelConfig config, NamedConfig("llama-1m"));
  ASSERT_OK(Complete(config));
  EXPECT_NEAR(static_cast<double>(ParameterCount(config)), 1e6, 5e4);
}

}  // namespace
}  // namespace zeromini::tools
