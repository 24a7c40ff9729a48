// zeromini plan, as a user runs it.

#include <string>

#include "gmock/gmock.h"
#include "tests/support/program_run.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

class PlanVerbTest : public ProgramTest {
 protected:
  std::string Config(const std::string& text) {
    const std::string path = dir_ + "/config.json";
    std::ofstream(path) << text;
    return path;
  }
};

TEST_F(PlanVerbTest, SaysHowManyRanksAPlanIsMadeFor) {
  for (const char* ranks : {"2000000000", "65537", "0", "-1", "1,70000"}) {
    const Ran ran = Run(absl::StrCat("plan --model gpt2 --ranks ", ranks));
    EXPECT_EQ(ran.exit_code, 2) << ranks;
    EXPECT_THAT(ran.error, HasSubstr("65536")) << ranks;
    EXPECT_THAT(ran.error, HasSubstr("--ranks")) << ranks;
  }
}

TEST_F(PlanVerbTest, RefusesANegativeSizeOfABucket) {
  const Ran ran = Run("plan --model gpt2 --ranks 2 --bucket-bytes -4");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error, HasSubstr("--bucket-bytes"));
}

// Heads of 32 rows where hidden / heads is 16.
constexpr char kWideHeads[] = R"({"model_type": "llama", "hidden_size": 64,
  "num_hidden_layers": 1, "num_attention_heads": 4, "num_key_value_heads": 2,
  "head_dim": 32, "intermediate_size": 160, "vocab_size": 300})";

TEST_F(PlanVerbTest, TakesTheHeadDimensionOfAConfig) {
  const Ran ran = Run(absl::StrCat("plan --config ", Config(kWideHeads),
                                   " --ranks 2 --optimizer adam-mini"));
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_EQ(ran.json[0]["blocks"]["head"], 4 + 2);
  // Embedding, head, values, output, MLP.
  EXPECT_EQ(ran.json[0]["blocks"]["row"], 2 * 300 + 64 + 64 + 2 * 160 + 64);
}

TEST_F(PlanVerbTest, PlansAConfigAsItsPreset) {
  const std::string path = Config(R"({"model_type": "llama",
    "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
    "num_key_value_heads": 8, "intermediate_size": 14336,
    "vocab_size": 128256})");
  const Ran config = Run(absl::StrCat("plan --config ", path, " --ranks 8"));
  ASSERT_EQ(config.exit_code, 0) << config.error;
  const Ran preset = Run("plan --model llama-3-8b --ranks 8");
  ASSERT_EQ(preset.exit_code, 0) << preset.error;
  for (const char* key :
       {"parameters", "blocks", "bytes_per_rank", "step_bytes_per_rank"}) {
    EXPECT_EQ(config.json[0][key], preset.json[0][key]) << key;
  }
}

TEST_F(PlanVerbTest, PlansAGpt2ConfigAsItsPreset) {
  const std::string path = Config(R"({"model_type": "gpt2", "n_embd": 768,
    "n_layer": 12, "n_head": 12, "vocab_size": 50257, "n_positions": 1024})");
  const Ran config = Run(absl::StrCat("plan --config ", path, " --ranks 3"));
  ASSERT_EQ(config.exit_code, 0) << config.error;
  const Ran preset = Run("plan --model gpt2 --ranks 3");
  EXPECT_EQ(config.json[0]["parameters"], preset.json[0]["parameters"]);
  EXPECT_EQ(config.json[0]["blocks"], preset.json[0]["blocks"]);
}

TEST_F(PlanVerbTest, AsksForAModelOrAConfig) {
  const Ran ran = Run("plan --ranks 2");
  EXPECT_EQ(ran.exit_code, 2);
  EXPECT_THAT(ran.error, HasSubstr("--model or --config"));
}

}  // namespace
}  // namespace zeromini
