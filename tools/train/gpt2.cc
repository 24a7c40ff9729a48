#include "tools/train/gpt2.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tools/train/widened_layers.h"

namespace zeromini::tools {

Gpt2::Gpt2(const ModelConfig& config) : config_(config) {
  const int64_t c = config_.hidden;
  tokens_ = AddParameter(*this, "transformer.wte.weight", {config_.vocab, c});
  positions_ =
      AddParameter(*this, "transformer.wpe.weight", {config_.context, c});
  for (int64_t i = 0; i < config_.layers; ++i) {
    const std::string prefix = absl::StrCat("transformer.h.", i, ".");
    Layer layer;
    layer.norm1 = AddAffine(prefix + "ln_1", {c});
    layer.qkv = AddAffine(prefix + "attn.c_attn", {c, 3 * c});
    layer.attention_out = AddAffine(prefix + "attn.c_proj", {c, c});
    layer.norm2 = AddAffine(prefix + "ln_2", {c});
    layer.mlp_in = AddAffine(prefix + "mlp.c_fc", {c, config_.ffn});
    layer.mlp_out = AddAffine(prefix + "mlp.c_proj", {config_.ffn, c});
    layers_.push_back(layer);
  }
  final_norm_ = AddAffine("transformer.ln_f", {c});
  if (config_.tied_head) {
    head_ = tokens_;
    TieParameter(*this, "lm_head.weight", head_);
  } else {
    head_ = AddParameter(*this, "lm_head.weight", {config_.vocab, c});
  }
}

Gpt2::Affine Gpt2::AddAffine(const std::string& name,
                             std::vector<int64_t> shape) {
  return {AddParameter(*this, name + ".weight", shape),
          AddParameter(*this, name + ".bias", {shape.back()})};
}

void Gpt2::Initialize(uint64_t seed) {
  torch::NoGradGuard no_grad;
  at::Generator generator = at::make_generator<at::CPUGeneratorImpl>(seed);
  // Each of the 2*layers residual branches adds variance to the same sum.
  const double residual_std =
      config_.init_std / std::sqrt(2.0 * static_cast<double>(config_.layers));
  for (auto& item : named_parameters()) {
    const std::string& name = item.key();
    if (config_.tied_head && name == "lm_head.weight") continue;
    if (absl::EndsWith(name, ".bias")) {
      item.value().zero_();
    } else if (item.value().dim() == 1) {
      item.value().fill_(1);
    } else {
      item.value().normal_(0,
                           absl::EndsWith(name, "c_proj.weight")
                               ? residual_std
                               : config_.init_std,
                           generator);
    }
  }
}

torch::Tensor Gpt2::Norm(const Affine& norm, const torch::Tensor& x) const {
  return torch::layer_norm(x, {config_.hidden}, Widened(norm.weight),
                           Widened(norm.bias), config_.norm_epsilon);
}

torch::Tensor Gpt2::Attention(const Layer& layer, const torch::Tensor& x,
                              const torch::Tensor& mask) const {
  const int64_t time = mask.size(1);
  const int64_t batch = x.size(0) / time;
  const int64_t heads = config_.heads;
  const int64_t dim = config_.head_dim;
  // [3, batch, heads, time, dim], so that each third is contiguous.
  const torch::Tensor qkv = Conv1d(x, layer.qkv.weight, layer.qkv.bias)
                                .view({batch, time, 3, heads, dim})
                                .permute({2, 0, 3, 1, 4})
                                .reshape({3, batch * heads, time, dim});
  const torch::Tensor scores =
      torch::baddbmm(mask, qkv[0], qkv[1].transpose(1, 2), 1,
                     1 / std::sqrt(static_cast<double>(dim)));
  const torch::Tensor mixed = torch::bmm(torch::softmax(scores, -1), qkv[2])
                                  .view({batch, heads, time, dim})
                                  .transpose(1, 2)
                                  .reshape({batch * time, heads * dim});
  return Conv1d(mixed, layer.attention_out.weight, layer.attention_out.bias);
}

torch::Tensor Gpt2::Logits(const torch::Tensor& tokens) {
  const int64_t batch = tokens.size(0);
  const int64_t time = tokens.size(1);
  torch::Tensor x =
      (Embedding(tokens_, tokens) + Widened(positions_.narrow(0, 0, time)))
          .view({batch * time, config_.hidden});
  const torch::Tensor mask = CausalMask(1, time);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const Layer& layer = layers_[i];
    const int block = static_cast<int>(i);
    x = gate().Before(block, x);
    x = x + Attention(layer, Norm(layer.norm1, x), mask);
    const torch::Tensor inner = torch::gelu(
        Conv1d(Norm(layer.norm2, x), layer.mlp_in.weight, layer.mlp_in.bias),
        "tanh");
    x = x + Conv1d(inner, layer.mlp_out.weight, layer.mlp_out.bias);
    x = gate().After(block, x);
  }
  return Linear(Norm(final_norm_, x), head_);
}

}  // namespace zeromini::tools
