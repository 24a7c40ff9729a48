#include "tools/config_preset.h"

#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

class Params {
 public:
  ParamSpec& Add(std::string name, std::vector<int64_t> shape) {
    ParamSpec& spec = specs_.emplace_back();
    spec.name = std::move(name);
    spec.shape = std::move(shape);
    return spec;
  }

  // [in, out], as GPT-2's Conv1D stores it, with a bias.
  void AddConv1d(const std::string& name, int64_t in, int64_t out) {
    Add(name + ".weight", {in, out}).output_is_last = true;
    Add(name + ".bias", {out});
  }

  void AddLayerNorm(const std::string& name, int64_t size) {
    Add(name + ".weight", {size});
    Add(name + ".bias", {size});
  }

  void AddHead(const ModelConfig& config, const char* embedding) {
    ParamSpec& head = Add("lm_head.weight", {config.vocab, config.hidden});
    if (config.tied_head) head.tied_to = embedding;
  }

  std::vector<ParamSpec> Take() { return std::move(specs_); }

 private:
  std::vector<ParamSpec> specs_;
};

std::vector<ParamSpec> LlamaParams(const ModelConfig& config) {
  const int64_t c = config.hidden;
  const int64_t q = config.heads * config.head_dim;
  const int64_t kv = config.kv_heads * config.head_dim;
  Params params;
  params.Add("model.embed_tokens.weight", {config.vocab, c});
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    params.Add(layer + "input_layernorm.weight", {c});
    params.Add(layer + "self_attn.q_proj.weight", {q, c});
    params.Add(layer + "self_attn.k_proj.weight", {kv, c});
    params.Add(layer + "self_attn.v_proj.weight", {kv, c});
    params.Add(layer + "self_attn.o_proj.weight", {c, q});
    params.Add(layer + "post_attention_layernorm.weight", {c});
    params.Add(layer + "mlp.gate_proj.weight", {config.ffn, c});
    params.Add(layer + "mlp.up_proj.weight", {config.ffn, c});
    params.Add(layer + "mlp.down_proj.weight", {c, config.ffn});
  }
  params.Add("model.norm.weight", {c});
  params.AddHead(config, "model.embed_tokens.weight");
  return params.Take();
}

std::vector<ParamSpec> Gpt2Params(const ModelConfig& config) {
  const int64_t c = config.hidden;
  Params params;
  params.Add("transformer.wte.weight", {config.vocab, c});
  params.Add("transformer.wpe.weight", {config.context, c});
  for (int64_t i = 0; i < config.layers; ++i) {
    const std::string layer = absl::StrCat("transformer.h.", i, ".");
    params.AddLayerNorm(layer + "ln_1", c);
    params.AddConv1d(layer + "attn.c_attn", c, 3 * c);
    params.AddConv1d(layer + "attn.c_proj", c, c);
    params.AddLayerNorm(layer + "ln_2", c);
    params.AddConv1d(layer + "mlp.c_fc", c, config.ffn);
    params.AddConv1d(layer + "mlp.c_proj", config.ffn, c);
  }
  params.AddLayerNorm("transformer.ln_f", c);
  params.AddHead(config, "transformer.wte.weight");
  return params.Take();
}

}  // namespace

ModelPreset PresetOf(const ModelConfig& config) {
  ModelPreset preset;
  preset.name = ArchitectureName(config.architecture);
  preset.shape = {config.hidden, config.heads, config.kv_heads,
                  config.head_dim};
  preset.params = config.architecture == Architecture::kLlama
                      ? LlamaParams(config)
                      : Gpt2Params(config);
  return preset;
}

absl::StatusOr<ModelPreset> PresetFromConfig(
    const std::string& path, std::vector<std::string>* warnings) {
  ZEROMINI_ASSIGN_OR_RETURN(const ModelConfig config, ReadHfConfig(path));
  warnings->insert(warnings->end(), config.warnings.begin(),
                   config.warnings.end());
  ModelPreset preset = PresetOf(config);
  preset.name = path;
  return preset;
}

}  // namespace zeromini::tools
