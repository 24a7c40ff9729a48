#include "tools/train/model_config.h"

#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

// Reads typed keys of one file and keeps the first error.
class KeyReader {
 public:
  KeyReader(const Json& json, std::string path)
      : json_(json), path_(std::move(path)) {}

  void Size(const char* key, bool required, int64_t& value) {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) {
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
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return;
    if (!found->is_number() || !(found->get<double>() > 0)) {
      Fail(key, "must be a number above 0");
      return;
    }
    value = found->get<double>();
  }

  void Flag(const char* key, bool& value) {
    const auto found = json_.find(key);
    if (found == json_.end() || found->is_null()) return;
    if (!found->is_boolean()) {
      Fail(key, "must be true or false");
      return;
    }
    value = found->get<bool>();
  }

  void Fail(const char* key, const std::string& problem) {
    if (!status_.ok()) return;
    status_ = absl::InvalidArgumentError(
        absl::StrCat(path_, ": key '", key, "' ", problem));
  }

  const absl::Status& status() const { return status_; }

 private:
  const Json& json_;
  std::string path_;
  absl::Status status_;
};

ModelConfig ReadLlamaKeys(KeyReader& keys) {
  ModelConfig config;
  keys.Size("hidden_size", true, config.hidden);
  keys.Size("num_hidden_layers", true, config.layers);
  keys.Size("num_attention_heads", true, config.heads);
  config.kv_heads = config.heads;
  keys.Size("num_key_value_heads", false, config.kv_heads);
  keys.Size("head_dim", false, config.head_dim);
  keys.Size("intermediate_size", true, config.ffn);
  keys.Size("vocab_size", true, config.vocab);
  config.context = 2048;
  keys.Size("max_position_embeddings", false, config.context);
  keys.Positive("rope_theta", config.rope_theta);
  config.norm_epsilon = 1e-6;
  keys.Positive("rms_norm_eps", config.norm_epsilon);
  keys.Positive("initializer_range", config.init_std);
  keys.Flag("tie_word_embeddings", config.tied_head);
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
  return config;
}

absl::StatusOr<Json> ReadJsonObject(const std::string& path) {
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  }
  Json json = Json::parse(file, nullptr, false);
  if (json.is_discarded() || !json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": is not a JSON object"));
  }
  return json;
}

}  // namespace

const char* ArchitectureName(Architecture architecture) {
  return architecture == Architecture::kLlama ? "llama" : "gpt2";
}

absl::StatusOr<ModelConfig> NamedConfig(const std::string& name) {
  ModelConfig config;
  if (name == "llama-1m" || name == "llama") return config;
  if (name == "gpt2") {
    config.architecture = Architecture::kGpt2;
    config.kv_heads = config.heads;
    config.ffn = 4 * config.hidden;
    config.tied_head = true;
    return config;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--model ", name, " is unknown; choose llama-1m, llama or gpt2"));
}

absl::StatusOr<ModelConfig> ReadHfConfig(const std::string& path) {
  ZEROMINI_ASSIGN_OR_RETURN(const Json json, ReadJsonObject(path));
  KeyReader keys(json, path);
  const auto type = json.find("model_type");
  if (type == json.end() || !type->is_string()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": key 'model_type' is missing or is not a string"));
  }
  const std::string family = type->get<std::string>();
  ModelConfig config;
  if (family == "gpt2") {
    config = ReadGpt2Keys(keys);
  } else if (family == "llama" || family == "mistral") {
    config = ReadLlamaKeys(keys);
  } else {
    keys.Fail("model_type", absl::StrCat("is '", family,
                                         "'; llama, mistral and gpt2 are "
                                         "supported"));
  }
  ZEROMINI_RETURN_IF_ERROR(keys.status());
  const absl::Status fits = Complete(config);
  if (!fits.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", std::string(fits.message())));
  }
  return config;
}

absl::Status Complete(ModelConfig& config) {
  if (config.hidden < 1 || config.layers < 1 || config.heads < 1 ||
      config.kv_heads < 1 || config.ffn < 1 || config.vocab < 1 ||
      config.context < 1) {
    return absl::InvalidArgumentError("every size of a model is at least 1");
  }
  if (config.head_dim == 0) {
    if (config.hidden % config.heads != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("hidden size ", config.hidden,
                       " is no multiple of heads ", config.heads));
    }
    config.head_dim = config.hidden / config.heads;
  }
  if (config.heads % config.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("heads ", config.heads, " is no multiple of key/value ",
                     "heads ", config.kv_heads));
  }
  if (config.architecture == Architecture::kLlama && config.head_dim % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "rotary positions need an even head size, not ", config.head_dim));
  }
  if (config.architecture == Architecture::kGpt2 &&
      (config.kv_heads != config.heads ||
       config.head_dim * config.heads != config.hidden)) {
    return absl::InvalidArgumentError(
        "GPT-2 has as many key/value heads as heads, and hidden is heads "
        "times the head size");
  }
  return absl::OkStatus();
}

int64_t ParameterCount(const ModelConfig& config) {
  const int64_t c = config.hidden;
  const int64_t head = config.tied_head ? 0 : config.vocab * c;
  if (config.architecture == Architecture::kGpt2) {
    const int64_t attention = 4 * c * c + 4 * c;
    const int64_t mlp = 2 * c * config.ffn + config.ffn + c;
    return (config.vocab + config.context) * c + head +
           config.layers * (attention + mlp + 4 * c) + 2 * c;
  }
  const int64_t q = config.heads * config.head_dim;
  const int64_t kv = config.kv_heads * config.head_dim;
  const int64_t layer = 2 * c * q + 2 * c * kv + 3 * c * config.ffn + 2 * c;
  return config.vocab * c + head + config.layers * layer + c;
}

}  // namespace zeromini::tools
