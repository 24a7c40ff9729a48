// What is done to a module after AttachTorch() that the optimizer would not
// see: Step() names the tensor.

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "zeromini/torch.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

OptimizerOptions Sgd() {
  OptimizerOptions options;
  options.algorithm = Algorithm::kSgd;
  options.hyper_groups[0].weight_decay = 0;
  return options;
}

struct NetImpl : torch::nn::Module {
  NetImpl() {
    first = register_module("first", torch::nn::Linear(3, 4));
    second = register_module("second", torch::nn::Linear(4, 2));
    torch::NoGradGuard no_grad;
    for (torch::Tensor& tensor : parameters()) tensor.fill_(0.5);
  }
  torch::Tensor Loss() { return second(first(torch::ones({1, 3}))).sum(); }
  torch::nn::Linear first{nullptr}, second{nullptr};
};
TORCH_MODULE(Net);

struct Form {
  MemoryForm memory;
  int stage;
};

class TorchChangesTest : public testing::TestWithParam<Form> {
 protected:
  void SetUp() override {
    OptimizerOptions options = Sgd();
    options.memory = GetParam().memory;
    options.stage = GetParam().stage;
    // Else what trains no longer is an error for the want of a gradient.
    options.absent_gradients = AbsentGradients::kSkip;
    ASSERT_OK_AND_ASSIGN(sharded_, AttachTorch(*net_, options, *group_));
    ASSERT_NO_FATAL_FAILURE(Train());
  }
  void Gather() {
    if (GetParam().stage == 3) {
      ASSERT_OK(sharded_->Gather(kNoLayerSet));
    }
  }
  void Train() {
    Gather();
    net_->Loss().backward();
    ASSERT_OK(sharded_->Step({0.25}));
  }
  // "" if it is OK.
  std::string Step() {
    const auto report = sharded_->Step({0.25});
    EXPECT_TRUE(report.ok() || absl::IsFailedPrecondition(report.status()))
        << report.status();
    return std::string(report.status().message());
  }

  std::unique_ptr<Communicator> group_ = Self();
  Net net_;
  std::unique_ptr<TorchOptimizer> sharded_;
};

INSTANTIATE_TEST_SUITE_P(Forms, TorchChangesTest,
                         testing::Values(Form{MemoryForm::kExternal, 1},
                                         Form{MemoryForm::kExternal, 2},
                                         Form{MemoryForm::kFlat, 1},
                                         Form{MemoryForm::kFlat, 3}));

TEST_P(TorchChangesTest, OtherWeightsBySetDataAndBackAreFine) {
  ASSERT_NO_FATAL_FAILURE(Gather());
  const torch::Tensor before = net_->first->weight.detach().clone();
  const torch::Tensor own = net_->first->weight.detach();
  net_->first->weight.set_data(torch::ones({4, 3}));
  {
    torch::NoGradGuard no_grad;
    net_->Loss();
  }
  net_->first->weight.set_data(own);
  ASSERT_NO_FATAL_FAILURE(Train());
  ASSERT_NO_FATAL_FAILURE(Gather());
  EXPECT_FALSE(torch::equal(net_->first->weight, before));
}

TEST_P(TorchChangesTest, WeightsInOtherMemoryAreToldByStep) {
  ASSERT_NO_FATAL_FAILURE(Gather());
  net_->Loss().backward();
  net_->first->weight.set_data(net_->first->weight.detach().clone());
  EXPECT_THAT(Step(), AllOf(HasSubstr("'first.weight'"), HasSubstr("copy_()"),
                            HasSubstr("AttachTorch()")));
}

TEST_P(TorchChangesTest, AGradientOfWeightsInOtherMemoryIsToldByStep) {
  ASSERT_NO_FATAL_FAILURE(Gather());
  const torch::Tensor own = net_->second->weight.detach();
  net_->second->weight.set_data(torch::ones({2, 4}));
  net_->Loss().backward();
  net_->second->weight.set_data(own);
  EXPECT_THAT(Step(), HasSubstr("'second.weight'"));
}

TEST_P(TorchChangesTest, AModuleThatWasLoadedIsToldByStep) {
  ASSERT_NO_FATAL_FAILURE(Gather());
  std::stringstream file;
  Net other;
  torch::save(other, file);
  torch::load(net_, file);
  net_->Loss().backward();
  EXPECT_THAT(Step(), AllOf(HasSubstr("'first.weight'"), HasSubstr("copy_()")));
}

TEST_P(TorchChangesTest, AModuleOfAnotherTypeIsToldByStep) {
  ASSERT_NO_FATAL_FAILURE(Gather());
  net_->to(torch::kBFloat16);
  EXPECT_THAT(Step(), AllOf(HasSubstr("'first.weight'"), HasSubstr("BFloat16"),
                            HasSubstr("Float")));
}

TEST_P(TorchChangesTest, AModuleOfAnotherTypeAndBackIsToldByStep) {
  ASSERT_NO_FATAL_FAILURE(Gather());
  net_->to(torch::kFloat64);
  net_->to(torch::kFloat32);
  net_->Loss().backward();
  EXPECT_THAT(Step(), HasSubstr("'first.weight'"));
}

TEST_P(TorchChangesTest, ATensorThatWasSetIsToldByStep) {
  ASSERT_NO_FATAL_FAILURE(Gather());
  {
    torch::NoGradGuard no_grad;
    net_->first->bias.set_(torch::ones({4}));
  }
  net_->Loss().backward();
  EXPECT_THAT(Step(), HasSubstr("'first.bias'"));
}

TEST_P(TorchChangesTest, UnfreezingIsToldByStep) {
  auto group = Self();
  Net net;
  net->first->weight.requires_grad_(false);
  OptimizerOptions options = Sgd();
  options.memory = GetParam().memory;
  options.stage = GetParam().stage;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(*net, options, *group));
  net->first->weight.requires_grad_(true);
  if (options.stage == 3) {
    ASSERT_OK(sharded->Gather(kNoLayerSet));
  }
  net->Loss().backward();
  EXPECT_THAT(sharded->Step({1}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("'first.weight'"),
                             HasSubstr("requires a gradient"),
                             HasSubstr("AttachTorch()"))));
}

TEST_P(TorchChangesTest, AParameterRegisteredLaterIsToldByStep) {
  net_->second->register_parameter("lora", torch::ones({2, 1}));
  ASSERT_NO_FATAL_FAILURE(Gather());
  net_->Loss().backward();
  EXPECT_THAT(Step(),
              AllOf(HasSubstr("'second.lora'"), HasSubstr("AttachTorch()")));
}

TEST_P(TorchChangesTest, AModuleReplacedLaterIsToldByStep) {
  net_->second = net_->replace_module("second", torch::nn::Linear(4, 2));
  ASSERT_NO_FATAL_FAILURE(Gather());
  net_->Loss().backward();
  EXPECT_THAT(Step(), HasSubstr("'second.weight'"));
}

TEST(TorchFreezingTest, FreezingIsToldByStepWhereAbsenceIsAnError) {
  auto group = Self();
  Net net;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(*net, Sgd(), *group));
  net->first->weight.requires_grad_(false);
  net->Loss().backward();
  EXPECT_THAT(sharded->Step({1}).status().message(),
              AllOf(HasSubstr("'first.weight'"),
                    HasSubstr("requires no gradient"), HasSubstr("kSkip")));
}

TEST(TorchFreezingTest, WhatIsFrozenForAWhileIsSkippedWhereSkippingIsOn) {
  auto group = Self();
  Net net;
  OptimizerOptions options = Sgd();
  options.absent_gradients = AbsentGradients::kSkip;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(*net, options, *group));
  const torch::Tensor before = net->first->weight.detach().clone();
  net->first->weight.requires_grad_(false);
  net->Loss().backward();
  ASSERT_OK(sharded->Step({1}));
  EXPECT_TRUE(torch::equal(net->first->weight, before));
  net->first->weight.requires_grad_(true);
  net->Loss().backward();
  ASSERT_OK(sharded->Step({1}));
  EXPECT_FALSE(torch::equal(net->first->weight, before));
}

// What the other ranks are told, and that all of them may go on.
TEST(TorchChangesOverRanksTest, AChangeOnOneRankRefusesTheStepOnAll) {
  std::vector<torch::Tensor> weights(2);
  RunRanks(2, [&](int rank, Communicator& group) {
    Net net;
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(*net, Sgd(), group));
    const torch::Tensor own = net->first->bias.detach();
    net->Loss().backward();
    if (rank == 1) net->first->bias.set_data(torch::ones({4}));
    const std::string why(sharded->Step({1}).status().message());
    EXPECT_THAT(why, HasSubstr(rank == 1 ? "'first.bias'" : "learning rate"));
    EXPECT_THAT(why, Not(HasSubstr("broken")));
    EXPECT_TRUE(torch::equal(net->first->weight, torch::full({4, 3}, 0.5)));
    if (rank == 1) net->first->bias.set_data(own);
    net->Loss().backward();
    ASSERT_OK(sharded->Step({1}));
    weights[rank] = net->first->weight.detach().clone();
  });
  EXPECT_FALSE(torch::equal(weights[0], torch::full({4, 3}, 0.5)));
  EXPECT_TRUE(torch::equal(weights[0], weights[1]));
}

TEST_P(TorchChangesTest, TheCureOfAnErrorCures) {
  net_->second->register_parameter("late", torch::ones({2, 1}));
  ASSERT_NO_FATAL_FAILURE(Gather());
  net_->Loss().backward();
  EXPECT_THAT(Step(), HasSubstr("Detach() and AttachTorch() again"));
  ASSERT_OK(sharded_->Detach());
  const torch::Tensor before = net_->second->bias.detach().clone();
  OptimizerOptions options = Sgd();
  options.memory = GetParam().memory;
  options.stage = GetParam().stage;
  options.absent_gradients = AbsentGradients::kSkip;
  ASSERT_OK_AND_ASSIGN(sharded_, AttachTorch(*net_, options, *group_));
  ASSERT_NO_FATAL_FAILURE(Train());
  ASSERT_NO_FATAL_FAILURE(Gather());
  EXPECT_FALSE(torch::equal(net_->second->bias, before));
}

// Forms in which updates start from a copy of the weights.
struct Copied {
  MemoryForm memory;
  int stage;
  torch::ScalarType dtype;
  DType wire;
};

class CopiedWeightsTest : public testing::TestWithParam<Copied> {};

INSTANTIATE_TEST_SUITE_P(
    Forms, CopiedWeightsTest,
    testing::Values(
        Copied{MemoryForm::kFlat, 1, torch::kBFloat16, DType::kFloat32},
        Copied{MemoryForm::kExternal, 2, torch::kBFloat16, DType::kFloat32},
        Copied{MemoryForm::kExternal, 1, torch::kFloat32, DType::kBFloat16}));

TEST_P(CopiedWeightsTest, AChangeInPlaceIsToldOrTaken) {
  auto group = Self();
  Net net;
  net->to(GetParam().dtype);
  OptimizerOptions options = Sgd();
  options.memory = GetParam().memory;
  options.stage = GetParam().stage;
  options.weight_wire = GetParam().wire;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(*net, options, *group));
  const auto backward = [&] {
    net->second(net->first(torch::ones({1, 3}, GetParam().dtype)))
        .sum()
        .backward();
  };
  backward();
  ASSERT_OK(sharded->Step({0.25}));
  {
    torch::NoGradGuard no_grad;
    net->second->bias.fill_(64);
  }
  backward();
  EXPECT_THAT(
      sharded->Step({0.25}).status().message(),
      AllOf(HasSubstr("'second.bias'"), HasSubstr("BroadcastWeights()")));
  ASSERT_OK(sharded->BroadcastWeights());
  backward();
  ASSERT_OK(sharded->Step({0.5}));
  // 64 - 0.5 * (1 + 0.9), as bf16.
  EXPECT_EQ(net->second->bias[0].item<float>(), 63.0f);
}

TEST(TorchChangesInPlaceTest, AreTakenWhereTheWeightsAreTheOnlyCopy) {
  auto group = Self();
  Net net;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(*net, Sgd(), *group));
  {
    torch::NoGradGuard no_grad;
    net->second->bias.fill_(64);
  }
  net->Loss().backward();
  ASSERT_OK(sharded->Step({0.5}));
  EXPECT_EQ(net->second->bias[0].item<float>(), 63.5f);
}

TEST(TorchChangesInPlaceTest, OfGatheredWeightsAreTold) {
  auto group = Self();
  Net net;
  OptimizerOptions options = Sgd();
  options.memory = MemoryForm::kFlat;
  options.stage = 3;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(*net, options, *group));
  ASSERT_OK(sharded->Gather(kNoLayerSet));
  {
    torch::NoGradGuard no_grad;
    net->second->bias.fill_(64);
  }
  net->Loss().backward();
  EXPECT_THAT(sharded->Step({0.5}).status().message(),
              AllOf(HasSubstr("'second.bias'"), HasSubstr("SetParam()")));
  EXPECT_FALSE(sharded->BroadcastWeights().ok());
  ASSERT_OK(sharded->Gather(kNoLayerSet));
  EXPECT_EQ(net->second->bias[0].item<float>(), 0.5f);
}

}  // namespace
}  // namespace zeromini
