// Each pass of backward() counts once, whatever happens to .grad() between, and
// nobody takes .grad() for the gradient that Step() uses.

#include <cmath>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "zeromini/torch.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

// A step of rate 1 from weights of zero makes them minus the gradient.
OptimizerOptions Sgd(int micro_steps) {
  OptimizerOptions options;
  options.algorithm = Algorithm::kSgd;
  options.hyper_groups[0].weight_decay = 0;
  options.micro_steps = micro_steps;
  return options;
}

void ExpectAll(const torch::Tensor& tensor, float value) {
  EXPECT_TRUE(torch::equal(tensor.detach().to(torch::kFloat32),
                           torch::full(tensor.sizes(), value)))
      << tensor << " instead of " << value;
}

struct Form {
  MemoryForm memory;
  int stage;
};

class TorchGradientsTest : public testing::TestWithParam<Form> {
 protected:
  OptimizerOptions Options(int micro_steps) const {
    OptimizerOptions options = Sgd(micro_steps);
    options.memory = GetParam().memory;
    options.stage = GetParam().stage;
    return options;
  }

  std::unique_ptr<Communicator> group_ = Self();
};

INSTANTIATE_TEST_SUITE_P(Forms, TorchGradientsTest,
                         testing::Values(Form{MemoryForm::kExternal, 1},
                                         Form{MemoryForm::kExternal, 2},
                                         Form{MemoryForm::kFlat, 1},
                                         Form{MemoryForm::kFlat, 2}));

// Two tensor objects over one memory.
struct Shared : torch::nn::Module {
  Shared() {
    a = register_parameter("a", torch::zeros({4, 3}));
    b = register_parameter("b", torch::zeros({4, 3}));
    b.set_data(a.detach());
  }
  torch::Tensor a, b;
};

TEST_P(TorchGradientsTest, EveryPartOfATiedGradientIsScaledOnce) {
  for (int micro_steps : {1, 2, 4}) {
    for (bool a_first : {true, false}) {
      Shared net;
      ASSERT_OK_AND_ASSIGN(auto sharded,
                           AttachTorch(net, Options(micro_steps), *group_));
      for (int micro = 0; micro < micro_steps; ++micro) {
        const torch::Tensor a = 2 * net.a.sum();
        const torch::Tensor b = 8 * net.b.sum();
        (a_first ? a : b).backward();
        (a_first ? b : a).backward();
      }
      ASSERT_OK(sharded->Step({1}));
      ExpectAll(net.a, -10);
      ExpectAll(net.b, -10);
    }
  }
}

TEST_P(TorchGradientsTest, ATiedPartThatFewerPassesReachCountsWhatItGot) {
  Shared net;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(4), *group_));
  (8 * net.b.sum()).backward();
  (4 * net.a.sum()).backward();
  (4 * net.a.sum()).backward();
  (8 * net.b.sum()).backward();
  ASSERT_OK(sharded->Step({1}));
  ExpectAll(net.a, -6);
}

TEST(TorchTiesTest, TiedGradientsAddUpOverRanks) {
  RunRanks(2, [&](int rank, Communicator& group) {
    Shared net;
    OptimizerOptions options = Sgd(2);
    options.memory = MemoryForm::kFlat;
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, options, group));
    for (int micro = 0; micro < 2; ++micro) {
      ((rank + 1) * net.a.sum() + 4 * net.b.sum()).backward();
    }
    ASSERT_OK(sharded->Step({1}));
    ExpectAll(net.a, -5.5);
  });
}

// `half` makes every pass hand over at once, also of what is fp32.
struct Mixed : torch::nn::Module {
  explicit Mixed(torch::ScalarType other) {
    wide = register_parameter("wide", torch::zeros({4, 2}));
    half = register_parameter("half", torch::zeros({3}, other));
  }
  torch::Tensor Loss() { return wide.sum() + half.to(torch::kFloat32).sum(); }
  torch::Tensor wide, half;
};

class MixedTypesTest : public TorchGradientsTest {};

INSTANTIATE_TEST_SUITE_P(Forms, MixedTypesTest,
                         testing::Values(Form{MemoryForm::kExternal, 1},
                                         Form{MemoryForm::kExternal, 2},
                                         Form{MemoryForm::kFlat, 1},
                                         Form{MemoryForm::kFlat, 2}));

TEST_P(MixedTypesTest, ZeroGradAfterAStepChangesNothing) {
  for (auto other : {torch::kFloat32, torch::kBFloat16}) {
    for (bool to_none : {true, false}) {
      Mixed net(other);
      ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(2), *group_));
      net.zero_grad(to_none);
      net.Loss().backward();
      net.Loss().backward();
      ASSERT_OK(sharded->Step({1}));
      ExpectAll(net.wide, -1);
      ExpectAll(net.half, -1);
    }
  }
}

TEST_P(MixedTypesTest, CreateGraphCountsEveryPassOnce) {
  for (auto other : {torch::kFloat32, torch::kBFloat16}) {
    Mixed net(other);
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(3), *group_));
    for (int micro = 0; micro < 3; ++micro) {
      net.Loss().backward({}, /*retain_graph=*/true, /*create_graph=*/true);
    }
    ASSERT_OK(sharded->Step({1}));
    ExpectAll(net.wide, -1);
    ExpectAll(net.half, -1);
  }
}

TEST_P(MixedTypesTest, APassThatMissesAParameterCountsAsZeros) {
  for (auto other : {torch::kFloat32, torch::kBFloat16}) {
    Mixed net(other);
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(4), *group_));
    net.zero_grad(true);
    net.Loss().backward();
    for (int micro = 0; micro < 3; ++micro) {
      net.half.to(torch::kFloat32).sum().backward();
    }
    ASSERT_OK(sharded->Step({1}));
    ExpectAll(net.wide, -0.25);
    ExpectAll(net.half, -1);
  }
}

// Torch hands one memory to both, as the reshape is a view.
TEST_P(TorchGradientsTest, GradientsThatShareMemoryDoNotMix) {
  struct Added : torch::nn::Module {
    Added() {
      a = register_parameter("a", torch::zeros({2, 2}));
      b = register_parameter("b", torch::zeros({4}));
    }
    torch::Tensor a, b;
  };
  Added net;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(2), *group_));
  for (int micro = 0; micro < 2; ++micro) {
    ((net.a.view(4) + net.b) * torch::full({4}, 3.0F)).sum().backward();
  }
  ASSERT_OK(sharded->Step({1}));
  ExpectAll(net.a, -3);
  ExpectAll(net.b, -3);
}

TEST_P(TorchGradientsTest, AHandedOverGradientCannotBeClippedOrUnscaled) {
  for (int micro_steps : {1, 2}) {
    Mixed net(torch::kFloat32);
    ASSERT_OK_AND_ASSIGN(auto sharded,
                         AttachTorch(net, Options(micro_steps), *group_));
    net.Loss().backward();
    EXPECT_THROW(torch::nn::utils::clip_grad_norm_(net.parameters(), 0.01),
                 c10::Error);
    EXPECT_THROW(torch::nn::utils::clip_grad_value_(net.parameters(), 0.01),
                 c10::Error);
    EXPECT_THROW(net.wide.mutable_grad().div_(1024.0), c10::Error);
    EXPECT_THROW(net.wide.grad().mul_(0.5), c10::Error);
    EXPECT_THROW(net.wide.grad().norm().item<float>(), c10::Error);
    for (int micro = 1; micro < micro_steps; ++micro) net.Loss().backward();
    ASSERT_OK(sharded->Step({1}));
    ExpectAll(net.wide, -1);
  }
}

TEST_P(TorchGradientsTest, ZeroGradBeforeStepIsToldByStep) {
  for (bool to_none : {true, false}) {
    auto group = Self();
    Mixed net(torch::kFloat32);
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(1), *group));
    net.Loss().backward();
    net.zero_grad(to_none);
    EXPECT_THAT(
        sharded->Step({1}),
        StatusIs(absl::StatusCode::kFailedPrecondition,
                 AllOf(HasSubstr("'wide'"), HasSubstr("max_grad_norm"),
                       HasSubstr("loss_scale"), HasSubstr("zero_grad()"))));
    ExpectAll(net.wide, 0);
  }
}

TEST_P(TorchGradientsTest, TorchsOwnZeroGradBeforeStepIsToldByStep) {
  Mixed net(torch::kFloat32);
  torch::optim::SGD theirs(net.parameters(), 0.1);
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(1), *group_));
  net.Loss().backward();
  theirs.zero_grad();
  EXPECT_THAT(sharded->Step({1}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("zero_grad()")));
}

TEST_P(TorchGradientsTest, ZeroGradBetweenMicroStepsIsToldByStep) {
  for (auto other : {torch::kFloat32, torch::kBFloat16}) {
    for (bool to_none : {true, false}) {
      auto group = Self();
      Mixed net(other);
      ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(2), *group));
      for (int micro = 0; micro < 2; ++micro) {
        net.zero_grad(to_none);
        net.Loss().backward();
      }
      EXPECT_THAT(sharded->Step({1}),
                  StatusIs(absl::StatusCode::kFailedPrecondition,
                           HasSubstr("zero_grad()")));
    }
  }
}

TEST_P(TorchGradientsTest, AGradientPutInPlaceOfOneHandedOverIsToldByStep) {
  Mixed net(torch::kFloat32);
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(1), *group_));
  net.Loss().backward();
  net.wide.mutable_grad() = torch::full({4, 2}, 0.5F);
  EXPECT_THAT(sharded->Step({1}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("'wide'"), HasSubstr("changed"))));
}

TEST_P(TorchGradientsTest, AHookOfTheTensorChangesWhatIsHandedOver) {
  Mixed net(torch::kFloat32);
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(2), *group_));
  net.wide.register_hook([](torch::Tensor grad) { return grad * 3; });
  net.Loss().backward();
  net.Loss().backward();
  ASSERT_OK(sharded->Step({1}));
  ExpectAll(net.wide, -3);
}

}  // namespace
}  // namespace zeromini
