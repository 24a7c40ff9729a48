// The keys of a config.json that change the model, and those that do not.

#include "tools/train/hf_keys.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "support/status_matchers.h"

namespace zeromini::tools {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

json Llama() {
  return json::parse(R"({"model_type": "llama", "hidden_size": 64,
    "num_hidden_layers": 2, "num_attention_heads": 8, "num_key_value_heads": 2,
    "intermediate_size": 160, "vocab_size": 300,
    "max_position_embeddings": 512})");
}

json Gpt2() {
  return json::parse(R"({"model_type": "gpt2", "n_embd": 48, "n_layer": 3,
    "n_head": 4, "vocab_size": 256, "n_positions": 64})");
}

json With(json config, const char* key, const char* value) {
  config[key] = json::parse(value);
  return config;
}

struct Case {
  const char* key;
  const char* value;
};

void ExpectRefused(const json& base, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    EXPECT_THAT(ConfigFromHfKeys(With(base, c.key, c.value), "c.json"),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("c.json"), HasSubstr(c.key))))
        << c.key << " " << c.value;
  }
}

void ExpectQuiet(const json& base, const std::vector<Case>& cases) {
  for (const Case& c : cases) {
    ASSERT_OK_AND_ASSIGN(
        const ModelConfig config,
        ConfigFromHfKeys(With(base, c.key, c.value), "c.json"));
    EXPECT_THAT(config.warnings, IsEmpty()) << c.key << " " << c.value;
  }
}

TEST(HfKeysTest, ReadsRopeThetaAsTransformers5WritesIt) {
  json config = With(Llama(), "rope_parameters",
                     R"({"rope_theta": 1e6, "rope_type": "default"})");
  ASSERT_OK_AND_ASSIGN(ModelConfig read, ConfigFromHfKeys(config, "c.json"));
  EXPECT_DOUBLE_EQ(read.rope_theta, 1e6);
  config["rope_theta"] = 1000000;
  EXPECT_OK(ConfigFromHfKeys(config, "c.json"));
  config["rope_theta"] = 10000;
  EXPECT_THAT(ConfigFromHfKeys(config, "c.json"),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("rope_theta"), HasSubstr("10000"))));
}

TEST(HfKeysTest, RefusesWhatMakesAnotherLlama) {
  ExpectRefused(
      Llama(),
      {{"rope_scaling", R"({"rope_type": "llama3", "factor": 8.0})"},
       {"rope_scaling", R"({"type": "linear", "factor": 2.0})"},
       {"rope_scaling", R"({"factor": 2.0})"},
       {"rope_scaling", "2"},
       {"rope_parameters", R"({"rope_theta": 1e4, "rope_type": "yarn"})"},
       {"rope_parameters", R"({"full_attention": {"rope_theta": 1e4}})"},
       {"rope_parameters", R"({"rope_theta": -1})"},
       {"rope_parameters", R"({"partial_rotary_factor": 0.5})"},
       {"attention_bias", "true"},
       {"mlp_bias", "true"},
       {"hidden_act", "\"gelu\""},
       {"layer_types", R"(["full_attention", "sliding_attention"])"},
       {"partial_rotary_factor", "0.25"},
       {"attention_multiplier", "0.01"},
       {"residual_multiplier", "0.2"},
       {"embedding_multiplier", "12"},
       {"num_local_experts", "8"},
       {"final_logit_softcapping", "30"},
       {"quantization_config", R"({"bits": 4})"},
       {"tie_word_embeddings", "1"},
       {"head_dim", "-16"},
       {"rms_norm_eps", "0"}});
}

TEST(HfKeysTest, NamesTheValueAndWhatIsSupported) {
  EXPECT_THAT(
      ConfigFromHfKeys(With(Llama(), "hidden_act", "\"gelu\""), "c.json"),
      StatusIs(
          absl::StatusCode::kInvalidArgument,
          AllOf(HasSubstr("'hidden_act' is \"gelu\""), HasSubstr("\"silu\""))));
  EXPECT_THAT(
      ConfigFromHfKeys(
          With(Llama(), "rope_scaling", R"({"rope_type": "yarn"})"), "c.json"),
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("'rope_scaling.rope_type' is \"yarn\""),
                     HasSubstr("\"default\""))));
}

TEST(HfKeysTest, TakesWhatMakesTheSameLlama) {
  ExpectQuiet(Llama(), {{"rope_scaling", "null"},
                        {"rope_scaling", R"({"rope_type": "default"})"},
                        {"attention_bias", "false"},
                        {"mlp_bias", "false"},
                        {"hidden_act", "\"silu\""},
                        {"attention_dropout", "0.0"},
                        {"partial_rotary_factor", "1.0"},
                        {"layer_types", R"(["full_attention"])"},
                        {"sliding_window", "null"},
                        {"head_dim", "16"},
                        {"architectures", R"(["LlamaForCausalLM"])"},
                        {"torch_dtype", "\"bfloat16\""},
                        {"transformers_version", "\"4.45.0\""},
                        {"pretraining_tp", "1"},
                        {"eos_token_id", "[1, 2]"},
                        {"use_cache", "true"}});
}

TEST(HfKeysTest, RefusesWhatMakesAnotherGpt2) {
  ExpectRefused(Gpt2(), {{"activation_function", "\"relu\""},
                         {"activation_function", "\"gelu\""},
                         {"scale_attn_weights", "false"},
                         {"scale_attn_by_inverse_layer_idx", "true"},
                         {"add_cross_attention", "true"}});
  ExpectQuiet(Gpt2(), {{"activation_function", "\"gelu_new\""},
                       {"scale_attn_weights", "true"},
                       {"n_ctx", "64"},
                       {"resid_pdrop", "0"},
                       {"summary_type", "\"cls_index\""},
                       {"task_specific_params", "{}"}});
}

TEST(HfKeysTest, WarnsOnceOfKeysThatNobodyKnows) {
  json config = With(Llama(), "wombat", "3");
  config["emu"] = "x";
  ASSERT_OK_AND_ASSIGN(const ModelConfig read,
                       ConfigFromHfKeys(config, "c.json"));
  EXPECT_THAT(read.warnings,
              ElementsAre(AllOf(HasSubstr("c.json"), HasSubstr("emu"),
                                HasSubstr("wombat"))));
}

TEST(HfKeysTest, WarnsOfDropout) {
  json config = With(Gpt2(), "attn_pdrop", "0.1");
  config["embd_pdrop"] = 0.1;
  ASSERT_OK_AND_ASSIGN(const ModelConfig read,
                       ConfigFromHfKeys(config, "c.json"));
  EXPECT_THAT(read.warnings, ElementsAre(AllOf(HasSubstr("attn_pdrop 0.1"),
                                               HasSubstr("embd_pdrop 0.1"))));
}

TEST(HfKeysTest, ReadsTheWindowUnlessItIsOff) {
  json config = With(Llama(), "sliding_window", "256");
  ASSERT_OK_AND_ASSIGN(ModelConfig read, ConfigFromHfKeys(config, "c.json"));
  EXPECT_EQ(read.attention_window, 256);
  config["use_sliding_window"] = false;
  ASSERT_OK_AND_ASSIGN(read, ConfigFromHfKeys(config, "c.json"));
  EXPECT_EQ(read.attention_window, 0);
}

TEST(HfKeysTest, KeepsAHeadSizeThatIsNotHiddenOverHeads) {
  ASSERT_OK_AND_ASSIGN(
      const ModelConfig read,
      ConfigFromHfKeys(With(Llama(), "head_dim", "16"), "c.json"));
  EXPECT_EQ(read.head_dim, 16);
  EXPECT_TRUE(read.own_head_dim);
}

}  // namespace
}  // namespace zeromini::tools
