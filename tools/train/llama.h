// Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU, no biases.
// Parameters carry Hugging Face names.

#ifndef ZEROMINI_TOOLS_TRAIN_LLAMA_H_
#define ZEROMINI_TOOLS_TRAIN_LLAMA_H_

#include <vector>

#include "tools/train/language_model.h"

namespace zeromini::tools {

class Llama : public LanguageModel {
 public:
  explicit Llama(const ModelConfig& config);  // Must be complete.

  torch::Tensor Logits(const torch::Tensor& tokens) override;
  void Initialize(uint64_t seed) override;

 private:
  struct Layer {
    torch::Tensor input_norm, q, k, v, o;
    torch::Tensor post_norm, gate, up, down;
  };
  struct Positions {
    torch::Tensor cosines, sines;  // [time, head_dim/2]
    torch::Tensor mask;            // [groups*time, time]
  };

  Layer AddLayer(int64_t index);
  const Positions& PositionsFor(int64_t time);
  torch::Tensor Attention(const Layer& layer, const torch::Tensor& x,
                          int64_t batch);
  torch::Tensor Mlp(const Layer& layer, const torch::Tensor& x);

  ModelConfig config_;
  torch::Tensor embedding_, norm_, head_;
  std::vector<Layer> layers_;
  Positions positions_;
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_LLAMA_H_
