#include "tools/train/widened_layers.h"

#include <vector>

namespace zeromini::tools {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

bool IsWide(const torch::Tensor& weight) {
  return weight.scalar_type() == torch::kFloat32;
}

struct LinearFunction : torch::autograd::Function<LinearFunction> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight) {
    context->save_for_backward({x, weight});
    return torch::mm(x, weight.to(torch::kFloat32).t());
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor& x = saved[0];
    const torch::Tensor& weight = saved[1];
    torch::Tensor dx = torch::mm(grads[0], weight.to(torch::kFloat32));
    torch::Tensor dw =
        torch::mm(grads[0].t(), x).to(weight.scalar_type()).contiguous();
    return {dx, dw};
  }
};

struct Conv1dFunction : torch::autograd::Function<Conv1dFunction> {
  static torch::Tensor forward(AutogradContext* context, const torch::Tensor& x,
                               const torch::Tensor& weight,
                               const torch::Tensor& bias) {
    context->save_for_backward({x, weight});
    return torch::addmm(bias.to(torch::kFloat32), x,
                        weight.to(torch::kFloat32));
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const variable_list saved = context->get_saved_variables();
    const torch::Tensor& x = saved[0];
    const torch::Tensor& weight = saved[1];
    const torch::ScalarType narrow = weight.scalar_type();
    torch::Tensor dx = torch::mm(grads[0], weight.to(torch::kFloat32).t());
    torch::Tensor dw = torch::mm(x.t(), grads[0]).to(narrow).contiguous();
    return {dx, dw, grads[0].sum(0).to(narrow)};
  }
};

struct EmbeddingFunction : torch::autograd::Function<EmbeddingFunction> {
  static torch::Tensor forward(AutogradContext* context,
                               const torch::Tensor& weight,
                               const torch::Tensor& tokens) {
    context->save_for_backward({tokens});
    context->saved_data["vocab"] = weight.size(0);
    context->saved_data["type"] = static_cast<int64_t>(weight.scalar_type());
    return torch::embedding(weight, tokens).to(torch::kFloat32);
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const torch::Tensor tokens = context->get_saved_variables()[0];
    const int64_t vocab = context->saved_data["vocab"].toInt();
    const auto narrow =
        static_cast<torch::ScalarType>(context->saved_data["type"].toInt());
    // A token that comes twice has its sum taken before the rounding.
    const torch::Tensor sum =
        torch::embedding_dense_backward(grads[0], tokens, vocab, -1, false);
    return {sum.to(narrow), torch::Tensor()};
  }
};

}  // namespace

torch::Tensor Linear(const torch::Tensor& x, const torch::Tensor& weight) {
  return IsWide(weight) ? torch::linear(x, weight)
                        : LinearFunction::apply(x, weight);
}

torch::Tensor Conv1d(const torch::Tensor& x, const torch::Tensor& weight,
                     const torch::Tensor& bias) {
  return IsWide(weight) ? torch::addmm(bias, x, weight)
                        : Conv1dFunction::apply(x, weight, bias);
}

torch::Tensor Embedding(const torch::Tensor& weight,
                        const torch::Tensor& tokens) {
  return IsWide(weight) ? torch::embedding(weight, tokens)
                        : EmbeddingFunction::apply(weight, tokens);
}

torch::Tensor Widened(const torch::Tensor& weight) {
  return IsWide(weight) ? weight : weight.to(torch::kFloat32);
}

}  // namespace zeromini::tools
