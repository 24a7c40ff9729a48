// ModelConfig: the shape of a language model, from flags or an HF config.json.

#ifndef ZEROMINI_TOOLS_TRAIN_MODEL_CONFIG_H_
#define ZEROMINI_TOOLS_TRAIN_MODEL_CONFIG_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace zeromini::tools {

enum class Architecture { kLlama, kGpt2 };
const char* ArchitectureName(Architecture architecture);  // "llama", "gpt2".

struct ModelConfig {
  Architecture architecture = Architecture::kLlama;
  int64_t hidden = 128;
  int64_t layers = 5;
  int64_t heads = 4;
  int64_t kv_heads = 2;       // GPT-2: equal to heads.
  int64_t head_dim = 0;       // 0: hidden / heads.
  bool own_head_dim = false;  // It was given: not hidden / heads.
  int64_t ffn = 352;
  int64_t vocab = 256;
  int64_t context = 128;
  double rope_theta = 10000;
  double norm_epsilon = 1e-5;
  bool tied_head = false;
  double init_std = 0.02;
  // Tokens a token looks back on, itself included; 0: all. Longer sequences
  // than this cannot be trained.
  int64_t attention_window = 0;
  std::vector<std::string> warnings;  // Of a config.json, for rank 0 to log.
};

// "llama-1m" (the default: about a million parameters, byte-level), "llama",
// "gpt2". The last two are the small defaults of their family, to be resized.
absl::StatusOr<ModelConfig> NamedConfig(const std::string& name);

// The Hugging Face keys (model_type, hidden_size, ...; n_embd, n_layer, ... for
// GPT-2). A folder stands for the config.json in it. InvalidArgument names the
// file and the key; so it does where a value makes another model than ours,
// such as scaled rotary positions or biases.
absl::StatusOr<ModelConfig> ReadHfConfig(const std::string& path);

// Fills head_dim in; InvalidArgument if the numbers do not fit together or are
// too large.
absl::Status Complete(ModelConfig& config);

// What the model will hold, by formula; a tied head counts once.
int64_t ParameterCount(const ModelConfig& config);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_MODEL_CONFIG_H_
