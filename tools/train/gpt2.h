// GPT-2: learned positions, LayerNorm, fused QKV, GELU, biases. Parameters
// carry Hugging Face names and Conv1D storage, [in, out].

#ifndef ZEROMINI_TOOLS_TRAIN_GPT2_H_
#define ZEROMINI_TOOLS_TRAIN_GPT2_H_

#include <vector>

#include "tools/train/language_model.h"

namespace zeromini::tools {

class Gpt2 : public LanguageModel {
 public:
  explicit Gpt2(const ModelConfig& config);  // Must be complete.

  torch::Tensor Logits(const torch::Tensor& tokens) override;
  void Initialize(uint64_t seed) override;

 private:
  struct Affine {
    torch::Tensor weight, bias;
  };
  struct Layer {
    Affine norm1, qkv, attention_out, norm2, mlp_in, mlp_out;
  };

  Affine AddAffine(const std::string& name, std::vector<int64_t> shape);
  torch::Tensor Norm(const Affine& norm, const torch::Tensor& x) const;
  torch::Tensor Attention(const Layer& layer, const torch::Tensor& x,
                          const torch::Tensor& mask) const;

  ModelConfig config_;
  torch::Tensor tokens_, positions_, head_;
  std::vector<Layer> layers_;
  Affine final_norm_;
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_GPT2_H_
