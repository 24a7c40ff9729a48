#include "tools/train/model_config.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tools/files/json_file.h"
#include "tools/train/hf_keys.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

absl::Status CheckSizes(const ModelConfig& config) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  const struct {
    const char* name;
    int64_t size, least;
  } sizes[] = {{"hidden size", config.hidden, 1},
               {"layers", config.layers, 1},
               {"heads", config.heads, 1},
               {"key/value heads", config.kv_heads, 1},
               {"head size", config.head_dim, 0},
               {"MLP width", config.ffn, 1},
               {"vocabulary", config.vocab, 1},
               {"context", config.context, 1}};
  for (const auto& each : sizes) {
    if (each.size >= each.least && each.size <= kMost) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("every size of a model is at least 1 and at most ", kMost,
                     "; ", each.name, " is ", each.size));
  }
  return absl::OkStatus();
}

// Before LibTorch is asked for so much; in doubles, which do not overflow.
absl::Status CheckCount(const ModelConfig& config) {
  constexpr double kMost = 1ull << 40;
  const auto c = static_cast<double>(config.hidden);
  const auto layers = static_cast<double>(config.layers);
  const auto heads = static_cast<double>(config.heads + config.kv_heads);
  const double count = c * static_cast<double>(config.vocab + config.context) +
                       layers * c *
                           (2 * heads * static_cast<double>(config.head_dim) +
                            2 * static_cast<double>(config.ffn));
  if (count <= kMost) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("a model of these sizes has about ", count,
                   " parameters, more than 2^40"));
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

absl::StatusOr<ModelConfig> ReadHfConfig(const std::string& given) {
  ZEROMINI_ASSIGN_OR_RETURN(const std::string path, ConfigPath(given));
  ZEROMINI_ASSIGN_OR_RETURN(const Json json, ReadJsonObject(path));
  ZEROMINI_ASSIGN_OR_RETURN(ModelConfig config, ConfigFromHfKeys(json, path));
  const absl::Status fits = Complete(config);
  if (!fits.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, ": ", std::string(fits.message())));
  }
  return config;
}

absl::Status Complete(ModelConfig& config) {
  ZEROMINI_RETURN_IF_ERROR(CheckSizes(config));
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
  return CheckCount(config);
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
