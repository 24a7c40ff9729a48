#include "tools/train/llama.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "absl/strings/str_cat.h"
#include "tools/train/fused_layers.h"
#include "tools/train/widened_layers.h"

namespace zeromini::tools {

Llama::Llama(const ModelConfig& config) : config_(config) {
  embedding_ = AddParameter(*this, "model.embed_tokens.weight",
                            {config_.vocab, config_.hidden});
  for (int64_t i = 0; i < config_.layers; ++i) layers_.push_back(AddLayer(i));
  norm_ = AddParameter(*this, "model.norm.weight", {config_.hidden});
  if (config_.tied_head) {
    head_ = embedding_;
    TieParameter(*this, "lm_head.weight", head_);
  } else {
    head_ =
        AddParameter(*this, "lm_head.weight", {config_.vocab, config_.hidden});
  }
}

Llama::Layer Llama::AddLayer(int64_t index) {
  const std::string prefix = absl::StrCat("model.layers.", index, ".");
  const int64_t c = config_.hidden;
  const int64_t q = config_.heads * config_.head_dim;
  const int64_t kv = config_.kv_heads * config_.head_dim;
  const auto add = [&](const char* name, std::vector<int64_t> shape) {
    return AddParameter(*this, absl::StrCat(prefix, name, ".weight"), shape);
  };
  Layer layer;
  layer.input_norm = add("input_layernorm", {c});
  layer.q = add("self_attn.q_proj", {q, c});
  layer.k = add("self_attn.k_proj", {kv, c});
  layer.v = add("self_attn.v_proj", {kv, c});
  layer.o = add("self_attn.o_proj", {c, q});
  layer.post_norm = add("post_attention_layernorm", {c});
  layer.gate = add("mlp.gate_proj", {config_.ffn, c});
  layer.up = add("mlp.up_proj", {config_.ffn, c});
  layer.down = add("mlp.down_proj", {c, config_.ffn});
  return layer;
}

void Llama::Initialize(uint64_t seed) {
  torch::NoGradGuard no_grad;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  for (auto& item : named_parameters()) {
    if (config_.tied_head && item.key() == "lm_head.weight") continue;
    if (item.value().dim() == 1) {
      item.value().fill_(1);
    } else {
      item.value().normal_(0, config_.init_std, generator);
    }
  }
}

const Llama::Positions& Llama::PositionsFor(int64_t time) {
  if (positions_.mask.defined() && positions_.mask.size(1) == time) {
    return positions_;
  }
  const int64_t half = config_.head_dim / 2;
  positions_.cosines = torch::empty({time, half});
  positions_.sines = torch::empty({time, half});
  float* cosines = positions_.cosines.data_ptr<float>();
  float* sines = positions_.sines.data_ptr<float>();
  for (int64_t t = 0; t < time; ++t) {
    for (int64_t i = 0; i < half; ++i) {
      const double angle =
          static_cast<double>(t) *
          std::pow(config_.rope_theta,
                   -static_cast<double>(i) / static_cast<double>(half));
      cosines[t * half + i] = static_cast<float>(std::cos(angle));
      sines[t * half + i] = static_cast<float>(std::sin(angle));
    }
  }
  positions_.mask = CausalMask(config_.heads / config_.kv_heads, time);
  return positions_;
}

torch::Tensor Llama::Attention(const Layer& layer, const torch::Tensor& x,
                               int64_t batch) {
  const int64_t time = x.size(0) / batch;
  const int64_t kv = config_.kv_heads;
  const int64_t groups = config_.heads / kv;
  const int64_t dim = config_.head_dim;
  const Positions& positions = PositionsFor(time);
  const auto rotate = [&](const torch::Tensor& weight, int64_t heads) {
    return RotateHeads(Linear(x, weight), {batch, time, heads, dim},
                       positions.cosines, positions.sines);
  };
  // A key head's query heads follow each other, so they stack into one matrix
  // and no key or value is ever repeated.
  const torch::Tensor q =
      rotate(layer.q, config_.heads).view({batch * kv, groups * time, dim});
  const torch::Tensor k = rotate(layer.k, kv);
  const torch::Tensor v = Linear(x, layer.v)
                              .view({batch, time, kv, dim})
                              .transpose(1, 2)
                              .reshape({batch * kv, time, dim});
  const torch::Tensor scores =
      torch::baddbmm(positions.mask, q, k.transpose(1, 2), 1,
                     1 / std::sqrt(static_cast<double>(dim)));
  const torch::Tensor mixed = torch::bmm(torch::softmax(scores, -1), v)
                                  .view({batch, config_.heads, time, dim})
                                  .transpose(1, 2)
                                  .reshape({batch * time, config_.heads * dim});
  return Linear(mixed, layer.o);
}

torch::Tensor Llama::Mlp(const Layer& layer, const torch::Tensor& x) {
  return Linear(torch::silu(Linear(x, layer.gate)) * Linear(x, layer.up),
                layer.down);
}

torch::Tensor Llama::Logits(const torch::Tensor& tokens) {
  const int64_t batch = tokens.size(0);
  torch::Tensor x = Embedding(embedding_, tokens.reshape({-1}));
  const auto norm = [this](const torch::Tensor& in, const torch::Tensor& w) {
    return RmsNorm(in, Widened(w), config_.norm_epsilon);
  };
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const int block = static_cast<int>(i);
    x = gate().Before(block, x);
    x = x + Attention(layer, norm(x, layer.input_norm), batch);
    x = x + Mlp(layer, norm(x, layer.post_norm));
    x = gate().After(block, x);
  }
  return Linear(norm(x, norm_), head_);
}

}  // namespace zeromini::tools
