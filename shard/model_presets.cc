#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

struct LlamaShape {
  const char* name;
  int64_t hidden, layers, heads, kv_heads, intermediate, vocabulary;
};
constexpr LlamaShape kLlamas[] = {
    {"llama-2-7b", 4096, 32, 32, 32, 11008, 32000},
    {"llama-2-13b", 5120, 40, 40, 40, 13824, 32000},
    {"llama-3-8b", 4096, 32, 32, 8, 14336, 128256},
    {"llama-3-70b", 8192, 80, 64, 8, 28672, 128256},
};

struct Gpt2Shape {
  const char* name;
  int64_t hidden, layers, heads;
};
constexpr Gpt2Shape kGpt2s[] = {
    {"gpt2", 768, 12, 12},
    {"gpt2-medium", 1024, 24, 16},
    {"gpt2-large", 1280, 36, 20},
    {"gpt2-xl", 1600, 48, 25},
};
constexpr int64_t kGpt2Vocabulary = 50257;
constexpr int64_t kGpt2Positions = 1024;

ParamSpec Tensor(std::string name, std::vector<int64_t> shape) {
  ParamSpec spec;
  spec.name = std::move(name);
  spec.shape = std::move(shape);
  return spec;
}

ModelPreset MakeLlama(const LlamaShape& shape) {
  ModelPreset preset;
  preset.name = shape.name;
  preset.shape = {shape.hidden, shape.heads, shape.kv_heads,
                  shape.hidden / shape.heads};
  const int64_t hidden = shape.hidden;
  const int64_t inner = shape.intermediate;
  const int64_t kv_rows = shape.kv_heads * preset.shape.head_dim;
  auto add = [&](std::string name, std::vector<int64_t> dims) {
    preset.params.push_back(Tensor(std::move(name), std::move(dims)));
  };
  add("model.embed_tokens.weight", {shape.vocabulary, hidden});
  for (int64_t i = 0; i < shape.layers; ++i) {
    const std::string layer = absl::StrCat("model.layers.", i, ".");
    add(layer + "input_layernorm.weight", {hidden});
    add(layer + "self_attn.q_proj.weight", {hidden, hidden});
    add(layer + "self_attn.k_proj.weight", {kv_rows, hidden});
    add(layer + "self_attn.v_proj.weight", {kv_rows, hidden});
    add(layer + "self_attn.o_proj.weight", {hidden, hidden});
    add(layer + "post_attention_layernorm.weight", {hidden});
    add(layer + "mlp.gate_proj.weight", {inner, hidden});
    add(layer + "mlp.up_proj.weight", {inner, hidden});
    add(layer + "mlp.down_proj.weight", {hidden, inner});
  }
  add("model.norm.weight", {hidden});
  add("lm_head.weight", {shape.vocabulary, hidden});
  return preset;
}

ModelPreset MakeGpt2(const Gpt2Shape& shape) {
  ModelPreset preset;
  preset.name = shape.name;
  preset.shape = {shape.hidden, shape.heads, shape.heads,
                  shape.hidden / shape.heads};
  const int64_t c = shape.hidden;
  auto add = [&](std::string name, std::vector<int64_t> dims) {
    // GPT-2's Conv1D stores [in, out].
    const bool conv1d = dims.size() == 2 && name.find(".h.") != name.npos;
    preset.params.push_back(Tensor(std::move(name), std::move(dims)));
    preset.params.back().output_is_last = conv1d;
  };
  add("transformer.wte.weight", {kGpt2Vocabulary, c});
  add("transformer.wpe.weight", {kGpt2Positions, c});
  for (int64_t i = 0; i < shape.layers; ++i) {
    const std::string layer = absl::StrCat("transformer.h.", i, ".");
    add(layer + "ln_1.weight", {c});
    add(layer + "ln_1.bias", {c});
    add(layer + "attn.c_attn.weight", {c, 3 * c});
    add(layer + "attn.c_attn.bias", {3 * c});
    add(layer + "attn.c_proj.weight", {c, c});
    add(layer + "attn.c_proj.bias", {c});
    add(layer + "ln_2.weight", {c});
    add(layer + "ln_2.bias", {c});
    add(layer + "mlp.c_fc.weight", {c, 4 * c});
    add(layer + "mlp.c_fc.bias", {4 * c});
    add(layer + "mlp.c_proj.weight", {4 * c, c});
    add(layer + "mlp.c_proj.bias", {c});
  }
  add("transformer.ln_f.weight", {c});
  add("transformer.ln_f.bias", {c});
  add("lm_head.weight", {kGpt2Vocabulary, c});
  preset.params.back().tied_to = "transformer.wte.weight";
  return preset;
}

}  // namespace

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const LlamaShape& shape : kLlamas) names.push_back(shape.name);
  for (const Gpt2Shape& shape : kGpt2s) names.push_back(shape.name);
  return names;
}

absl::StatusOr<ModelPreset> FindPreset(absl::string_view name) {
  for (const LlamaShape& shape : kLlamas) {
    if (name == shape.name) return MakeLlama(shape);
  }
  for (const Gpt2Shape& shape : kGpt2s) {
    if (name == shape.name) return MakeGpt2(shape);
  }
  return absl::NotFoundError(
      absl::StrCat("unknown model \"", name,
                   "\"; known: ", absl::StrJoin(PresetNames(), ", ")));
}

}  // namespace zeromini
