// LanguageModel: what the trainer needs of a model, whichever it is. Weights
// and gradients are of the dtype that Module::to() gives them, all else is
// fp32.

#ifndef ZEROMINI_TOOLS_TRAIN_LANGUAGE_MODEL_H_
#define ZEROMINI_TOOLS_TRAIN_LANGUAGE_MODEL_H_

#include <torch/torch.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tools/train/model_config.h"

namespace zeromini::tools {

// What happens around a block, which a model knows by its number only. Both
// give back x, maybe with something to do in backward.
class BlockGate {
 public:
  virtual ~BlockGate() = default;
  virtual torch::Tensor Before(int block, const torch::Tensor& x) = 0;
  virtual torch::Tensor After(int block, const torch::Tensor& x) = 0;
};

class LanguageModel : public torch::nn::Module {
 public:
  // tokens: int64 [batch, time], time <= context. Logits [batch*time, vocab].
  virtual torch::Tensor Logits(const torch::Tensor& tokens) = 0;

  // Sets every weight, from this seed alone.
  virtual void Initialize(uint64_t seed) = 0;

  // Mean cross entropy. tokens: int64 [batch, time + 1]; each token but the
  // first is a target.
  torch::Tensor Loss(const torch::Tensor& tokens);

  // Not owned; null: nothing happens.
  void SetGate(BlockGate* gate) { gate_ = gate; }

 protected:
  BlockGate& gate() const;

 private:
  BlockGate* gate_ = nullptr;
};

// `config` is complete.
std::shared_ptr<LanguageModel> MakeModel(const ModelConfig& config);

// InvalidArgument if no parameter requires a gradient: training would change
// nothing.
absl::Status CheckTrainable(const LanguageModel& model);

// Registers an uninitialised parameter under a dotted Hugging Face name, making
// the modules on the way.
torch::Tensor AddParameter(torch::nn::Module& root, const std::string& name,
                           const std::vector<int64_t>& shape);

// Registers the same tensor under a second name: a tied head.
void TieParameter(torch::nn::Module& root, const std::string& name,
                  const torch::Tensor& tensor);

// [groups*time, time]: 0 where a position may look, -inf where it may not.
torch::Tensor CausalMask(int64_t groups, int64_t time);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_LANGUAGE_MODEL_H_
