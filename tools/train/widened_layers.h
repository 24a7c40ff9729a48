// Layers whose weights may be 16-bit: arithmetic and activations are fp32, and
// a weight is widened where it is used, in forward and again in backward, so
// that no fp32 copy lives in between. Gradients of 16-bit weights are computed
// in fp32 and rounded once. With fp32 weights they are torch's own.

#ifndef ZEROMINI_TOOLS_TRAIN_WIDENED_LAYERS_H_
#define ZEROMINI_TOOLS_TRAIN_WIDENED_LAYERS_H_

#include <torch/torch.h>

namespace zeromini::tools {

// x [n, in] times the transpose of weight [out, in].
torch::Tensor Linear(const torch::Tensor& x, const torch::Tensor& weight);

// bias + x [n, in] times weight [in, out]: Hugging Face's Conv1D.
torch::Tensor Conv1d(const torch::Tensor& x, const torch::Tensor& weight,
                     const torch::Tensor& bias);

// The rows of weight [vocab, width] that tokens, int64, name.
torch::Tensor Embedding(const torch::Tensor& weight,
                        const torch::Tensor& tokens);

// The tensor in fp32: for what is small enough to live until backward.
torch::Tensor Widened(const torch::Tensor& weight);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_WIDENED_LAYERS_H_
