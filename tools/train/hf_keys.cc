#include "tools/train/hf_keys.h"

#include <initializer_list>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

// Of any family, without effect on what is trained here.
constexpr const char* kHarmless[] = {
    "_attn_implementation",
    "_commit_hash",
    "_name_or_path",
    "architectures",
    "attn_implementation",
    "auto_map",
    "bad_words_ids",
    "begin_suppress_tokens",
    "bos_token_id",
    "chunk_size_feed_forward",
    "decoder_start_token_id",
    "diversity_penalty",
    "do_sample",
    "dtype",
    "early_stopping",
    "encoder_no_repeat_ngram_size",
    "eos_token_id",
    "exponential_decay_length_penalty",
    "finetuning_task",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "gradient_checkpointing",
    "id2label",
    "is_decoder",
    "label2id",
    "length_penalty",
    "max_length",
    "min_length",
    "model_type",
    "name_or_path",
    "no_repeat_ngram_size",
    "num_beam_groups",
    "num_beams",
    "num_labels",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "output_scores",
    "pad_token_id",
    "prefix",
    "pretraining_tp",
    "problem_type",
    "remove_invalid_values",
    "repetition_penalty",
    "return_dict",
    "return_dict_in_generate",
    "sep_token_id",
    "suppress_tokens",
    "task_specific_params",
    "temperature",
    "tf_legacy_loss",
    "tie_encoder_decoder",
    "tokenizer_class",
    "top_k",
    "top_p",
    "torch_dtype",
    "torchscript",
    "transformers_version",
    "typical_p",
    "use_bfloat16",
    "use_cache",
};
constexpr const char* kHarmlessInGpt2[] = {
    "n_ctx",
    "reorder_and_upcast_attn",
    "summary_activation",
    "summary_first_dropout",
    "summary_proj_to_labels",
    "summary_type",
    "summary_use_proj",
};

// Arbitrary bytes of a file must not throw here.
std::string Text(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  constexpr size_t kMost = 80;
  if (text.size() <= kMost) return text;
  size_t end = kMost;
  // Not inside a character.
  while (end > 0 && (text[end] & 0xC0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

// Reads typed keys of one object, keeps the first error, and knows which keys
// nobody asked for. Null is as absent.
class KeyReader {
 public:
  // `prefix` is of nested keys: "rope_parameters.".
  KeyReader(const Json& json, std::string path, std::string prefix = "")
      : json_(json), path_(std::move(path)), prefix_(std::move(prefix)) {}

  const Json* Find(const char* key) {
    asked_.insert(key);
    const auto found = json_.find(key);
    return found == json_.end() || found->is_null() ? nullptr : &*found;
  }

  void Size(const char* key, bool required, int64_t& value) {
    const Json* found = Find(key);
    if (found == nullptr) {
      if (required) Fail(key, "is missing");
      return;
    }
    constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
    if (!found->is_number_integer() || found->get<double>() < 1 ||
        found->get<double>() > static_cast<double>(kMost)) {
      Fail(key, absl::StrCat("must be a whole number from 1 to ", kMost));
      return;
    }
    value = found->get<int64_t>();
  }

  void Positive(const char* key, double& value) {
    const Json* found = Find(key);
    if (found == nullptr) return;
    if (!found->is_number() || !(found->get<double>() > 0)) {
      Fail(key, "must be a number above 0");
      return;
    }
    value = found->get<double>();
  }

  void Flag(const char* key, bool& value) {
    const Json* found = Find(key);
    if (found == nullptr) return;
    if (!found->is_boolean()) {
      Fail(key, "must be true or false");
      return;
    }
    value = found->get<bool>();
  }

  // Refuses any other value: it would make another model.
  void Only(const char* key, std::initializer_list<Json> supported) {
    const Json* found = Find(key);
    if (found == nullptr) return;
    std::vector<std::string> known;
    for (const Json& value : supported) {
      if (*found == value) return;
      known.push_back(Text(value));
    }
    if (known.empty()) known.push_back("null");
    Fail(key, absl::StrCat("is ", Text(*found), "; supported is ",
                           absl::StrJoin(known, ", ")));
  }

  void Dropout(const char* key) {
    const Json* found = Find(key);
    if (found == nullptr || *found == Json(0)) return;
    dropout_.push_back(absl::StrCat(key, " ", Text(*found)));
  }

  template <size_t n>
  void Ignore(const char* const (&keys)[n]) {
    asked_.insert(keys, keys + n);
  }

  // Keys nobody asked for, sorted, with the prefix.
  std::vector<std::string> Unknown() const {
    std::vector<std::string> unknown;
    for (const auto& [key, value] : json_.items()) {
      if (asked_.count(key) == 0) unknown.push_back(Text(prefix_ + key));
    }
    return unknown;
  }

  std::vector<std::string> Warnings() const {
    std::vector<std::string> warnings;
    if (!dropout_.empty()) {
      warnings.push_back(absl::StrCat(path_, ": there is no dropout here, ",
                                      absl::StrJoin(dropout_, ", "),
                                      " is not applied"));
    }
    const std::vector<std::string> unknown = Unknown();
    if (!unknown.empty()) {
      warnings.push_back(absl::StrCat(
          path_, ": ", unknown.size() == 1 ? "a key is" : "keys are",
          " unknown and ignored: ", absl::StrJoin(unknown, ", ")));
    }
    return warnings;
  }

  void Fail(const char* key, const std::string& problem) {
    Keep(absl::InvalidArgumentError(
        absl::StrCat(path_, ": key '", prefix_, key, "' ", problem)));
  }

  void Keep(const absl::Status& status) {
    if (status_.ok()) status_ = status;
  }

  const std::string& path() const { return path_; }
  const absl::Status& status() const { return status_; }

 private:
  const Json& json_;
  std::string path_, prefix_;
  std::set<std::string> asked_;
  std::vector<std::string> dropout_;
  absl::Status status_;
};

// "rope_parameters" of transformers 5, "rope_scaling" before: `theta` is set if
// it is in there, and anything but plain rotation is refused.
void ReadRope(KeyReader& keys, const char* key, double& theta) {
  const Json* found = keys.Find(key);
  if (found == nullptr) return;
  if (!found->is_object()) return keys.Fail(key, "must be an object or null");
  KeyReader nested(*found, keys.path(), absl::StrCat(key, "."));
  nested.Only("rope_type", {"default"});
  nested.Only("type", {"default"});
  nested.Only("partial_rotary_factor", {1});
  nested.Positive("rope_theta", theta);
  keys.Keep(nested.status());
  const std::vector<std::string> unknown = nested.Unknown();
  if (!unknown.empty()) {
    keys.Fail(key, absl::StrCat("has ", absl::StrJoin(unknown, ", "),
                                "; only plain rotary positions are supported"));
  }
}

void ReadRopeTheta(KeyReader& keys, ModelConfig& config) {
  double plain = 0;
  double nested = 0;
  keys.Positive("rope_theta", plain);
  ReadRope(keys, "rope_scaling", nested);
  ReadRope(keys, "rope_parameters", nested);
  if (plain > 0 && nested > 0 && plain != nested) {
    keys.Fail("rope_theta", absl::StrCat("is ", plain, ", but ", nested,
                                         " in 'rope_parameters'"));
  }
  if (plain > 0) config.rope_theta = plain;
  if (nested > 0) config.rope_theta = nested;
}

void ReadWindow(KeyReader& keys, ModelConfig& config) {
  bool used = true;
  keys.Flag("use_sliding_window", used);
  keys.Size("sliding_window", false, config.attention_window);
  keys.Find("max_window_layers");
  if (!used) config.attention_window = 0;
  const Json* layers = keys.Find("layer_types");
  if (layers == nullptr) return;
  for (const Json& type : *layers) {
    if (type != "full_attention") {
      keys.Fail("layer_types", absl::StrCat("has ", Text(type),
                                            "; supported is full_attention"));
    }
  }
}

// What other models of the Llama kind have, and this one does not.
void RefuseOtherLlamas(KeyReader& keys) {
  keys.Only("hidden_act", {"silu", "swish"});
  for (const char* key :
       {"attention_bias", "mlp_bias", "use_qk_norm", "qk_norm", "qk_layernorm",
        "is_encoder_decoder", "add_cross_attention", "rope_interleaved"}) {
    keys.Only(key, {false});
  }
  for (const char* key :
       {"partial_rotary_factor", "embedding_multiplier", "residual_multiplier",
        "logits_scaling", "logit_scale"}) {
    keys.Only(key, {1});
  }
  for (const char* key :
       {"num_local_experts", "num_experts", "n_routed_experts"}) {
    keys.Only(key, {0});
  }
  for (const char* key : {"attention_multiplier", "query_pre_attn_scalar",
                          "attn_logit_softcapping", "final_logit_softcapping",
                          "clip_qkv", "quantization_config"}) {
    keys.Only(key, {});
  }
  keys.Only("no_rope_layers", {Json::array()});
  keys.Only("pruned_heads", {Json::object()});
}

ModelConfig ReadLlamaKeys(KeyReader& keys, bool mistral) {
  ModelConfig config;
  keys.Size("hidden_size", true, config.hidden);
  keys.Size("num_hidden_layers", true, config.layers);
  keys.Size("num_attention_heads", true, config.heads);
  // What transformers takes where the keys are absent.
  config.kv_heads = mistral ? 8 : config.heads;
  keys.Size("num_key_value_heads", false, config.kv_heads);
  keys.Size("head_dim", false, config.head_dim);
  config.own_head_dim = config.head_dim > 0;
  keys.Size("intermediate_size", true, config.ffn);
  keys.Size("vocab_size", true, config.vocab);
  config.context = 2048;
  keys.Size("max_position_embeddings", false, config.context);
  ReadRopeTheta(keys, config);
  ReadWindow(keys, config);
  config.norm_epsilon = 1e-6;
  keys.Positive("rms_norm_eps", config.norm_epsilon);
  keys.Positive("initializer_range", config.init_std);
  keys.Flag("tie_word_embeddings", config.tied_head);
  keys.Dropout("attention_dropout");
  keys.Dropout("hidden_dropout");
  RefuseOtherLlamas(keys);
  return config;
}

ModelConfig ReadGpt2Keys(KeyReader& keys) {
  ModelConfig config;
  config.architecture = Architecture::kGpt2;
  keys.Size("n_embd", true, config.hidden);
  keys.Size("n_layer", true, config.layers);
  keys.Size("n_head", true, config.heads);
  config.kv_heads = config.heads;
  config.ffn = 4 * config.hidden;
  keys.Size("n_inner", false, config.ffn);
  keys.Size("vocab_size", true, config.vocab);
  config.context = 1024;
  keys.Size("n_positions", false, config.context);
  keys.Positive("layer_norm_epsilon", config.norm_epsilon);
  keys.Positive("initializer_range", config.init_std);
  config.tied_head = true;
  keys.Flag("tie_word_embeddings", config.tied_head);
  // Both are the tanh form.
  keys.Only("activation_function", {"gelu_new", "gelu_pytorch_tanh"});
  keys.Only("scale_attn_weights", {true});
  for (const char* key : {"scale_attn_by_inverse_layer_idx",
                          "add_cross_attention", "is_encoder_decoder"}) {
    keys.Only(key, {false});
  }
  keys.Only("quantization_config", {});
  keys.Only("pruned_heads", {Json::object()});
  for (const char* key : {"attn_pdrop", "embd_pdrop", "resid_pdrop"}) {
    keys.Dropout(key);
  }
  keys.Ignore(kHarmlessInGpt2);
  return config;
}

}  // namespace

absl::StatusOr<ModelConfig> ConfigFromHfKeys(const nlohmann::json& json,
                                             const std::string& path) {
  KeyReader keys(json, path);
  keys.Ignore(kHarmless);
  const Json* type = keys.Find("model_type");
  if (type == nullptr || !type->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": key 'model_type' is missing or is not a string"));
  }
  ModelConfig config;
  if (*type == "gpt2") {
    config = ReadGpt2Keys(keys);
  } else if (*type == "llama" || *type == "mistral") {
    config = ReadLlamaKeys(keys, *type == "mistral");
  } else {
    keys.Fail("model_type", absl::StrCat("is ", Text(*type),
                                         "; llama, mistral and gpt2 are "
                                         "supported"));
  }
  ZEROMINI_RETURN_IF_ERROR(keys.status());
  config.warnings = keys.Warnings();
  return config;
}

}  // namespace zeromini::tools
