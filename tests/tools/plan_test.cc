// zeromini plan, as a user runs it.

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "tests/support/program_run.h"
#include "zeromini/optimizer.h"

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

// The model of kWideHeads.
std::vector<ParamSpec> WideHeads(std::vector<std::vector<float>>& weights) {
  const std::string layer = "model.layers.0.";
  const std::vector<std::pair<std::string, std::vector<int64_t>>> shapes = {
      {"model.embed_tokens.weight", {300, 64}},
      {layer + "input_layernorm.weight", {64}},
      {layer + "self_attn.q_proj.weight", {128, 64}},
      {layer + "self_attn.k_proj.weight", {64, 64}},
      {layer + "self_attn.v_proj.weight", {64, 64}},
      {layer + "self_attn.o_proj.weight", {64, 128}},
      {layer + "post_attention_layernorm.weight", {64}},
      {layer + "mlp.gate_proj.weight", {160, 64}},
      {layer + "mlp.up_proj.weight", {160, 64}},
      {layer + "mlp.down_proj.weight", {64, 160}},
      {"model.norm.weight", {64}},
      {"lm_head.weight", {300, 64}}};
  std::vector<ParamSpec> specs;
  for (const auto& [name, shape] : shapes) {
    ParamSpec& spec = specs.emplace_back();
    spec.name = name;
    spec.shape = shape;
    weights.emplace_back(shape[0] * (shape.size() > 1 ? shape[1] : 1), 1.0f);
    spec.data = weights.back().data();
  }
  return specs;
}

TEST_F(PlanVerbTest, PlansTheScalarBytesThatAStepSends) {
  const Ran ran = Run(
      absl::StrCat("plan --config ", Config(kWideHeads),
                   " --ranks 16 --value-blocks whole --optimizer adam-mini"));
  ASSERT_EQ(ran.exit_code, 0) << ran.error;
  EXPECT_GT(ran.json[0]["split_blocks"], 0);
  const nlohmann::json& planned = ran.json[0]["step_bytes_per_rank"];
  RunRanks(16, [&](int /*rank*/, Communicator& group) {
    std::vector<std::vector<float>> weights;
    const std::vector<ParamSpec> specs = WideHeads(weights);
    OptimizerOptions options;
    options.value_blocks = ValueBlocks::kWhole;
    options.model = {64, 4, 2, 32};
    options.hyper_groups = {HyperGroup()};
    ASSERT_OK_AND_ASSIGN(const auto optimizer,
                         Optimizer::Create(options, specs, group));
    for (int i = static_cast<int>(specs.size()) - 1; i >= 0; --i) {
      ASSERT_OK(optimizer->GradReady(i, weights[i].data()));
    }
    ASSERT_OK_AND_ASSIGN(const StepReport report,
                         optimizer->Step({/*learning_rate=*/0.1, true}));
    EXPECT_EQ(planned["scalars"],
              report.traffic[static_cast<int>(Purpose::kScalars)].bytes);
    ASSERT_OK(optimizer->Close());
  });
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
