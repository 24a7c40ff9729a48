#include "tools/train/language_model.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "tools/train/gpt2.h"
#include "tools/train/llama.h"

namespace zeromini::tools {
namespace {

// The module that `name` lies in, and the last part of `name`.
std::pair<torch::nn::Module*, std::string> Descend(torch::nn::Module& root,
                                                   const std::string& name) {
  const std::vector<std::string> parts = absl::StrSplit(name, '.');
  torch::nn::Module* module = &root;
  for (size_t i = 0; i + 1 < parts.size(); ++i) {
    std::shared_ptr<torch::nn::Module> child;
    for (const auto& item : module->named_children()) {
      if (item.key() == parts[i]) child = item.value();
    }
    if (!child) {
      child = module->register_module(parts[i],
                                      std::make_shared<torch::nn::Module>());
    }
    module = child.get();
  }
  return {module, parts.back()};
}

class OpenGate : public BlockGate {
 public:
  torch::Tensor Before(int /*block*/, const torch::Tensor& x) override {
    return x;
  }
  torch::Tensor After(int /*block*/, const torch::Tensor& x) override {
    return x;
  }
};

}  // namespace

BlockGate& LanguageModel::gate() const {
  static OpenGate open;
  return gate_ == nullptr ? open : *gate_;
}

torch::Tensor LanguageModel::Loss(const torch::Tensor& tokens) {
  const int64_t time = tokens.size(1) - 1;
  const torch::Tensor targets = tokens.narrow(1, 1, time).reshape({-1});
  return torch::nn::functional::cross_entropy(Logits(tokens.narrow(1, 0, time)),
                                              targets);
}

std::shared_ptr<LanguageModel> MakeModel(const ModelConfig& config) {
  if (config.architecture == Architecture::kGpt2) {
    return std::make_shared<Gpt2>(config);
  }
  return std::make_shared<Llama>(config);
}

absl::Status CheckTrainable(const LanguageModel& model) {
  const auto parameters = model.parameters();
  for (const torch::Tensor& parameter : parameters) {
    if (parameter.requires_grad()) return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "all ", parameters.size(),
      " parameters of the model are frozen, so nothing would be trained: call "
      "requires_grad_() on what is to be"));
}

torch::Tensor AddParameter(torch::nn::Module& root, const std::string& name,
                           const std::vector<int64_t>& shape) {
  auto [module, last] = Descend(root, name);
  return module->register_parameter(last, torch::empty(shape));
}

void TieParameter(torch::nn::Module& root, const std::string& name,
                  const torch::Tensor& tensor) {
  auto [module, last] = Descend(root, name);
  module->register_parameter(last, tensor);
}

torch::Tensor CausalMask(int64_t groups, int64_t time) {
  return torch::full({time, time}, -std::numeric_limits<float>::infinity())
      .triu(1)
      .repeat({groups, 1});
}

}  // namespace zeromini::tools
