// Two layers whose chains of small tensor operations would cost more than the
// arithmetic: one pass each way instead. fp32 on the host.

#ifndef ZEROMINI_TOOLS_TRAIN_FUSED_LAYERS_H_
#define ZEROMINI_TOOLS_TRAIN_FUSED_LAYERS_H_

#include <torch/torch.h>

#include <cstdint>

namespace zeromini::tools {

// x / sqrt(mean(x^2) + epsilon) * weight over the last dimension.
torch::Tensor RmsNorm(const torch::Tensor& x, const torch::Tensor& weight,
                      double epsilon);

struct HeadLayout {
  int64_t batch = 0;
  int64_t time = 0;
  int64_t heads = 0;
  int64_t head_dim = 0;
};

// [batch*time, heads*head_dim] to [batch*heads, time, head_dim], turned by the
// position's angles; `cosines` and `sines` are [>= time, head_dim/2]. Pairs
// element i with i + head_dim/2, as Hugging Face does.
torch::Tensor RotateHeads(const torch::Tensor& x, const HeadLayout& layout,
                          const torch::Tensor& cosines,
                          const torch::Tensor& sines);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_FUSED_LAYERS_H_
