#include "tools/train/widened_layers.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cstring>

#include "gtest/gtest.h"

namespace zeromini::tools {
namespace {

class WidenedLayersTest : public testing::TestWithParam<torch::ScalarType> {
 protected:
  void SetUp() override { torch::set_num_threads(1); }

  torch::Tensor Draw(at::IntArrayRef shape) {
    return torch::empty(shape).normal_(0, 1, random_);
  }
  // Trainable, of the type under test.
  torch::Tensor Narrow(at::IntArrayRef shape) {
    return Draw(shape).to(GetParam()).requires_grad_();
  }
  static torch::Tensor Wide(const torch::Tensor& narrow) {
    return narrow.detach().to(torch::kFloat32).requires_grad_();
  }
  void ExpectRounded(const torch::Tensor& narrow, const torch::Tensor& wide) {
    EXPECT_EQ(narrow.grad().scalar_type(), GetParam());
    EXPECT_TRUE(torch::equal(narrow.grad(), wide.grad().to(GetParam())))
        << (narrow.grad().to(torch::kFloat32) - wide.grad()).abs().max();
  }

  at::Generator random_ = at::make_generator<at::CPUGeneratorImpl>(9);
};

TEST_P(WidenedLayersTest, ALinearsGradientIsTheFp32OneRounded) {
  torch::Tensor x = Draw({12, 20}).requires_grad_();
  torch::Tensor x_wide = x.detach().clone().requires_grad_();
  torch::Tensor w = Narrow({7, 20});
  torch::Tensor wide = Wide(w);
  const torch::Tensor g = Draw({12, 7});
  const torch::Tensor y = Linear(x, w);
  const torch::Tensor expected = torch::linear(x_wide, wide);
  EXPECT_TRUE(torch::equal(y, expected));
  y.backward(g);
  expected.backward(g);
  ExpectRounded(w, wide);
  EXPECT_TRUE(torch::allclose(x.grad(), x_wide.grad(), 1e-5, 1e-6));
}

TEST_P(WidenedLayersTest, AConv1dsGradientsAreTheFp32OnesRounded) {
  torch::Tensor x = Draw({12, 20}).requires_grad_();
  torch::Tensor x_wide = x.detach().clone().requires_grad_();
  torch::Tensor w = Narrow({20, 7});
  torch::Tensor b = Narrow({7});
  torch::Tensor wide = Wide(w);
  torch::Tensor wide_b = Wide(b);
  const torch::Tensor g = Draw({12, 7});
  const torch::Tensor y = Conv1d(x, w, b);
  const torch::Tensor expected = torch::addmm(wide_b, x_wide, wide);
  EXPECT_TRUE(torch::equal(y, expected));
  y.backward(g);
  expected.backward(g);
  ExpectRounded(w, wide);
  ExpectRounded(b, wide_b);
  EXPECT_TRUE(torch::allclose(x.grad(), x_wide.grad(), 1e-5, 1e-6));
}

TEST_P(WidenedLayersTest, ATokenThatComesOftenIsSummedBeforeItsRounding) {
  const torch::Tensor tokens =
      torch::arange(600, torch::kInt64).remainder(5).view({2, 300});
  torch::Tensor w = Narrow({6, 8});
  torch::Tensor wide = Wide(w);
  const torch::Tensor g = Draw({2, 300, 8});
  const torch::Tensor y = Embedding(w, tokens);
  const torch::Tensor expected = torch::embedding(wide, tokens);
  EXPECT_TRUE(torch::equal(y, expected));
  y.backward(g);
  expected.backward(g);
  ExpectRounded(w, wide);
}

TEST_P(WidenedLayersTest, NoCopyOfAWeightLivesFromForwardToBackward) {
  torch::Tensor x = Draw({3, 4}).requires_grad_();
  torch::Tensor w = Narrow({5, 4});
  torch::Tensor conv = Narrow({4, 5});
  const torch::Tensor y = Linear(x, w) + Conv1d(x, conv, Narrow({5}));
  // Past autograd, as gathered weights change their place.
  std::memset(w.data_ptr(), 0, w.nbytes());
  std::memset(conv.data_ptr(), 0, conv.nbytes());
  y.sum().backward();
  EXPECT_EQ(x.grad().abs().max().item<float>(), 0);
}

INSTANTIATE_TEST_SUITE_P(Types, WidenedLayersTest,
                         testing::Values(torch::kBFloat16, torch::kFloat16));

TEST(WidenedLayersWideTest, Fp32WeightsAreLeftAsTheyAre) {
  const torch::Tensor w = torch::ones({3});
  EXPECT_TRUE(Widened(w).is_same(w));
  EXPECT_EQ(Widened(w.to(torch::kBFloat16)).scalar_type(), torch::kFloat32);
}

}  // namespace
}  // namespace zeromini::tools
