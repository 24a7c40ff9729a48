// What runs before and after torch adds to a parameter's .grad(), and what
// .grad() is once its gradient has been taken.

#ifndef ZEROMINI_INTERNAL_TORCH_HOOKS_H_
#define ZEROMINI_INTERNAL_TORCH_HOOKS_H_

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/torch.h>

#include <algorithm>
#include <functional>
#include <memory>
#include <utility>

namespace zeromini {
namespace internal {

class PreHook : public torch::autograd::FunctionPreHook {
 public:
  explicit PreHook(std::function<void()> body) : body_(std::move(body)) {}

  torch::autograd::variable_list operator()(
      const torch::autograd::variable_list& gradients) override {
    body_();
    return gradients;
  }

 private:
  std::function<void()> body_;
};

// Both hooks of one accumulator. `after` gets the gradient that torch added.
class GradientHooks {
 public:
  void Add(torch::autograd::Node& accumulator, std::function<void()> before,
           std::function<void(const torch::Tensor&)> after) {
    using torch::autograd::variable_list;
    auto hook = std::make_unique<PreHook>(std::move(before));
    pre_ = hook.get();
    accumulator.add_pre_hook(std::move(hook));
    post_ = accumulator.add_post_hook(
        std::make_unique<torch::autograd::utils::LambdaPostHook>(
            [after = std::move(after)](const variable_list& outputs,
                                       const variable_list& inputs) {
              after(inputs.empty() ? torch::Tensor() : inputs[0]);
              return outputs;
            }));
  }

  void Remove(torch::autograd::Node& accumulator) {
    auto& hooks = accumulator.pre_hooks();
    hooks.erase(
        std::remove_if(hooks.begin(), hooks.end(),
                       [this](const auto& hook) { return hook.get() == pre_; }),
        hooks.end());
    accumulator.del_post_hook(post_);
  }

 private:
  const void* pre_ = nullptr;
  uintptr_t post_ = 0;
};

// Shaped like `tensor`, without memory. Bool, so that clipping and scaling,
// which meta tensors of a float type take without a word, throw. zero_() does
// not throw: zero_grad() is harmless after Step().
inline torch::Tensor TakenGradient(const torch::Tensor& tensor) {
  return torch::empty(
      tensor.sizes(),
      torch::TensorOptions().dtype(torch::kBool).device(torch::kMeta));
}

// Counts writes in place.
inline int64_t VersionOf(const torch::Tensor& tensor) {
  return tensor.unsafeGetTensorImpl()->version_counter().current_version();
}

// Whether nothing but .grad() and, if torch passed it on, `received` is over
// the memory of `grad`: torch may have given one memory to two parameters.
inline bool OwnsMemory(const torch::Tensor& grad,
                       const torch::Tensor& received) {
  const bool passed_on = received.defined() && received.is_alias_of(grad);
  return grad.storage().use_count() <= (passed_on ? 2 : 1);
}

}  // namespace internal
}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_HOOKS_H_
