#include <cmath>

#include "gmock/gmock.h"
#include "support/status_matchers.h"
#include "tools/train/fused_layers.h"
#include "tools/train/language_model.h"
#include "tools/train/train_optimizer.h"
#include "zeromini/group.h"

namespace zeromini::tools {
namespace {

using testing::AllOf;
using testing::HasSubstr;

ModelConfig SmallConfig(const std::string& name) {
  ModelConfig config = *NamedConfig(name);
  config.hidden = 32;
  config.layers = 2;
  config.heads = 4;
  config.kv_heads = name == "gpt2" ? 4 : 2;
  config.ffn = 48;
  config.context = 16;
  EXPECT_OK(Complete(config));
  return config;
}

torch::Tensor SomeTokens(int64_t batch, int64_t time) {
  return torch::arange(batch * (time + 1), torch::kInt64)
      .mul(37)
      .remainder(256)
      .view({batch, time + 1});
}

class ModelsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override { torch::set_num_threads(1); }
  ModelConfig config_ = SmallConfig(GetParam());
  std::shared_ptr<LanguageModel> model_ = MakeModel(config_);
};

TEST_P(ModelsTest, IsRefusedWhereAllOfItIsFrozen) {
  for (torch::Tensor parameter : model_->parameters()) {
    parameter.set_requires_grad(false);
  }
  model_->parameters()[2].set_requires_grad(true);
  EXPECT_OK(CheckTrainable(*model_));
  model_->parameters()[2].set_requires_grad(false);
  const auto group = Self();
  PretrainOptions options;
  options.model = config_;
  for (const auto make : {MakeSharded, MakeTorchAdamW}) {
    EXPECT_THAT(make(*model_, options, *group),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("are frozen"),
                               HasSubstr("requires_grad_()"))));
  }
}

TEST_P(ModelsTest, HoldsAsManyParametersAsTheFormulaSays) {
  for (bool tied : {false, true}) {
    config_.tied_head = tied;
    std::vector<torch::Tensor> seen;
    int64_t count = 0;
    for (const torch::Tensor& tensor : MakeModel(config_)->parameters()) {
      bool known = false;
      for (const torch::Tensor& other : seen) {
        known = known || other.is_same(tensor);
      }
      if (!known) count += tensor.numel();
      seen.push_back(tensor);
    }
    EXPECT_EQ(count, ParameterCount(config_)) << "tied " << tied;
  }
}

TEST_P(ModelsTest, KnowsNothingAtFirst) {
  model_->Initialize(1);
  EXPECT_NEAR(model_->Loss(SomeTokens(4, 16)).item<float>(), std::log(256.0),
              0.1);
}

TEST_P(ModelsTest, SameSeedSameWeights) {
  auto twin = MakeModel(config_);
  model_->Initialize(5);
  twin->Initialize(5);
  for (size_t i = 0; i < model_->parameters().size(); ++i) {
    EXPECT_TRUE(torch::equal(model_->parameters()[i], twin->parameters()[i]));
  }
  twin->Initialize(6);
  EXPECT_FALSE(torch::equal(model_->parameters()[0], twin->parameters()[0]));
}

TEST_P(ModelsTest, NeverLooksAhead) {
  torch::NoGradGuard no_grad;
  model_->Initialize(2);
  const torch::Tensor tokens = SomeTokens(1, 15);
  torch::Tensor changed = tokens.clone();
  changed[0][12] = 99;
  const torch::Tensor difference =
      (model_->Logits(tokens) - model_->Logits(changed)).abs().amax(1);
  EXPECT_LT(difference.narrow(0, 0, 12).max().item<float>(), 1e-6);
  EXPECT_GT(difference.narrow(0, 12, 4).min().item<float>(), 1e-6);
}

TEST_P(ModelsTest, GradientsMatchFiniteDifferences) {
  model_->Initialize(3);
  for (torch::Tensor& tensor : model_->parameters()) {
    torch::NoGradGuard no_grad;
    if (tensor.dim() == 2) tensor.mul_(5);
  }
  const torch::Tensor tokens = SomeTokens(2, 8);
  model_->Loss(tokens).backward();
  torch::NoGradGuard no_grad;
  for (const auto& item : model_->named_parameters()) {
    torch::Tensor tensor = item.value();
    const torch::Tensor direction =
        tensor.grad() / (tensor.grad().norm() + 1e-12);
    constexpr double kStep = 3e-2;
    tensor.add_(direction, kStep);
    const double up = model_->Loss(tokens).item<float>();
    tensor.sub_(direction, 2 * kStep);
    const double down = model_->Loss(tokens).item<float>();
    tensor.add_(direction, kStep);
    const double expected = tensor.grad().norm().item<float>();
    EXPECT_NEAR((up - down) / (2 * kStep), expected, 0.05 * expected + 2e-4)
        << item.key();
  }
}

INSTANTIATE_TEST_SUITE_P(Both, ModelsTest, testing::Values("llama", "gpt2"));

TEST(FusedLayersTest, RmsNormIsItsFormula) {
  torch::manual_seed(1);
  torch::Tensor x = torch::randn({7, 40}).requires_grad_();
  torch::Tensor w = torch::rand({40}).requires_grad_();
  const torch::Tensor plain =
      x * torch::rsqrt(x.square().mean(-1, true) + 1e-5) * w;
  const torch::Tensor fused = RmsNorm(x, w, 1e-5);
  EXPECT_TRUE(torch::allclose(fused, plain, 1e-5, 1e-6));
  const torch::Tensor g = torch::randn({7, 40});
  const auto expected = torch::autograd::grad({plain}, {x, w}, {g});
  const auto actual = torch::autograd::grad({fused}, {x, w}, {g});
  EXPECT_TRUE(torch::allclose(actual[0], expected[0], 1e-4, 1e-5));
  EXPECT_TRUE(torch::allclose(actual[1], expected[1], 1e-4, 1e-5));
}

TEST(FusedLayersTest, RotationTurnsBackInBackward) {
  torch::manual_seed(2);
  const torch::Tensor angles = torch::rand({5, 4});
  torch::Tensor x = torch::randn({2 * 5, 3 * 8}).requires_grad_();
  const torch::Tensor turned =
      RotateHeads(x, {2, 5, 3, 8}, angles.cos(), angles.sin());
  EXPECT_TRUE(torch::allclose(turned.square().sum(), x.square().sum()));
  // A rotation's inverse is its transpose, so its own output comes back as x.
  const auto back = torch::autograd::grad({turned}, {x}, {turned.detach()});
  EXPECT_TRUE(torch::allclose(back[0], x, 1e-5, 1e-6));
}

}  // namespace
}  // namespace zeromini::tools
