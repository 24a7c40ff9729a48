#include <ATen/CPUGeneratorImpl.h>

#include <cmath>
#include <functional>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "zeromini/torch.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

// A tied module: the same tensor under two names, one frozen, one bias.
struct Net : torch::nn::Module {
  Net() {
    // Not torch's own generator, which all rank threads share.
    at::Generator random = at::make_generator<at::CPUGeneratorImpl>(4);
    const auto draw = [&](at::IntArrayRef shape) {
      return torch::empty(shape).normal_(0, 1, random);
    };
    embedding = register_parameter("embedding", draw({12, 6}));
    head = register_parameter("head", embedding);
    fixed = register_parameter("fixed", draw({6, 6}), false);
    weight = register_parameter("weight", draw({6, 6}));
    bias = register_parameter("bias", draw({6}));
    unused = register_parameter("unused", draw({3}));
  }

  torch::Tensor Loss(const torch::Tensor& tokens) {
    const torch::Tensor x = torch::embedding(embedding, tokens);
    const torch::Tensor hidden =
        torch::tanh(torch::addmm(bias, torch::matmul(x, fixed), weight));
    return torch::nn::functional::cross_entropy(torch::linear(hidden, head),
                                                tokens.add(1).remainder(12));
  }

  torch::Tensor embedding, head, fixed, weight, bias, unused;
};

torch::Tensor Tokens(int64_t first, int64_t count) {
  return torch::arange(first, first + count, torch::kInt64).remainder(12);
}

OptimizerOptions Options() {
  OptimizerOptions options;
  options.algorithm = Algorithm::kAdamW;
  options.absent_gradients = AbsentGradients::kSkip;
  return options;
}

std::vector<torch::Tensor> Weights(Net& net) {
  return {net.embedding.detach().clone(), net.weight.detach().clone(),
          net.bias.detach().clone()};
}

double Distance(const std::vector<torch::Tensor>& a,
                const std::vector<torch::Tensor>& b) {
  double largest = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    largest =
        std::max<double>(largest, (a[i] - b[i]).abs().max().item<float>());
  }
  return largest;
}

constexpr int kSteps = 5;

// Five steps of torch's own AdamW over `batch` tokens a step.
std::vector<torch::Tensor> TrainWithTorch(int64_t batch) {
  Net net;
  auto options = torch::optim::AdamWOptions(0.01).betas({0.9, 0.95}).eps(1e-8);
  std::vector<torch::optim::OptimizerParamGroup> groups;
  groups.emplace_back(
      std::vector<torch::Tensor>{net.embedding, net.weight},
      std::make_unique<torch::optim::AdamWOptions>(options.weight_decay(0.1)));
  groups.emplace_back(
      std::vector<torch::Tensor>{net.bias},
      std::make_unique<torch::optim::AdamWOptions>(options.weight_decay(0)));
  torch::optim::AdamW adamw(groups, options);
  for (int step = 0; step < kSteps; ++step) {
    adamw.zero_grad();
    net.Loss(Tokens(step, batch)).backward();
    adamw.step();
  }
  return Weights(net);
}

struct Form {
  MemoryForm memory;
  int stage;
};

class AttachTorchTest : public testing::TestWithParam<Form> {
 protected:
  OptimizerOptions FormOptions() const {
    OptimizerOptions options = Options();
    options.memory = GetParam().memory;
    options.stage = GetParam().stage;
    return options;
  }
};

TEST_P(AttachTorchTest, FollowsTorchAdamWOnAnyNumberOfRanks) {
  const auto expected = TrainWithTorch(12);
  for (int ranks : {1, 2, 3}) {
    RunRanks(ranks, [&](int rank, Communicator& group) {
      Net net;
      ASSERT_OK_AND_ASSIGN(auto sharded,
                           AttachTorch(net, FormOptions(), group));
      for (int step = 0; step < kSteps; ++step) {
        net.Loss(Tokens(step + rank * 12 / ranks, 12 / ranks)).backward();
        ASSERT_OK(sharded->Step({0.01}));
      }
      EXPECT_LT(Distance(Weights(net), expected), 2e-6) << ranks;
      ASSERT_OK(sharded->optimizer().Close());
    });
  }
}

// Five steps on `ranks`; rank 0's weights. `adjust` may set rules.
std::vector<torch::Tensor> TrainFactored(
    int ranks, OptimizerOptions options,
    const std::function<void(ParamSpec&)>& adjust,
    std::vector<int64_t>* second_moments) {
  options.algorithm = Algorithm::kAdamMini;
  options.second_moment = SecondMoment::kFactored;
  std::vector<torch::Tensor> weights;
  RunRanks(ranks, [&](int rank, Communicator& group) {
    Net net;
    TorchAttachOptions attach;
    attach.adjust = adjust;
    ASSERT_OK_AND_ASSIGN(auto sharded,
                         AttachTorch(net, options, group, attach));
    for (int step = 0; step < kSteps; ++step) {
      net.Loss(Tokens(step + rank * 12 / ranks, 12 / ranks)).backward();
      ASSERT_OK(sharded->Step({0.01}));
    }
    if (rank == 0) {
      weights = Weights(net);
      for (const PlannedParam& param : sharded->optimizer().plan().params) {
        second_moments->push_back(param.blocks_total);
      }
    }
    ASSERT_OK(sharded->optimizer().Close());
  });
  return weights;
}

TEST_P(AttachTorchTest, FactoredSecondMomentsAndRulesReachTheParameters) {
  const auto adjust = [](ParamSpec& spec) {
    if (spec.name == "weight") spec.rule = BlockRule::Columns();
  };
  std::vector<int64_t> plain, ruled, unused;
  const auto alone = TrainFactored(1, FormOptions(), {}, &plain);
  EXPECT_THAT(plain, ElementsAre(12 + 6, 0, 6 + 6, 6, 3));
  const auto by_rule = TrainFactored(1, FormOptions(), adjust, &ruled);
  EXPECT_THAT(ruled, ElementsAre(12 + 6, 0, 6, 6, 3));
  EXPECT_GT(Distance(by_rule, alone), 1e-3);
  for (int ranks : {2, 3}) {
    EXPECT_LT(Distance(TrainFactored(ranks, FormOptions(), {}, &unused), alone),
              2e-6);
    EXPECT_LT(
        Distance(TrainFactored(ranks, FormOptions(), adjust, &unused), by_rule),
        2e-6);
  }
}

TEST_P(AttachTorchTest, MicroStepsAverageMeanLosses) {
  const auto expected = TrainWithTorch(12);
  auto group = Self();
  Net net;
  OptimizerOptions options = FormOptions();
  options.micro_steps = 3;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, options, *group));
  for (int step = 0; step < kSteps; ++step) {
    for (int micro = 0; micro < 3; ++micro) {
      net.Loss(Tokens(step + 4 * micro, 4)).backward();
    }
    ASSERT_OK(sharded->Step({0.01}));
  }
  EXPECT_LT(Distance(Weights(net), expected), 2e-6);
}

TEST_P(AttachTorchTest, ModuleOutlivesTheOptimizer) {
  auto group = Self();
  Net net;
  std::vector<torch::Tensor> trained;
  {
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, FormOptions(), *group));
    net.Loss(Tokens(0, 12)).backward();
    ASSERT_OK(sharded->Step({0.01}));
    trained = Weights(net);
  }
  EXPECT_EQ(Distance(Weights(net), trained), 0);
  EXPECT_EQ(net.head.data_ptr(), net.embedding.data_ptr());
  net.Loss(Tokens(0, 12)).backward();  // No hook is left to call anyone.
  EXPECT_TRUE(net.weight.grad().defined());
}

TEST_P(AttachTorchTest, StartsFromTheWeightsOfRankZero) {
  RunRanks(2, [&](int rank, Communicator& group) {
    Net net;
    {
      torch::NoGradGuard no_grad;
      net.weight.add_(rank);
    }
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, FormOptions(), group));
    EXPECT_TRUE(torch::equal(net.weight, Net().weight)) << rank;
  });
}

struct Pair : torch::nn::Module {
  explicit Pair(torch::ScalarType type) {
    a = register_parameter("a", torch::full({4, 4}, 0.5, type));
    b = register_parameter("b", torch::full({4, 4}, -0.25, type));
  }
  torch::Tensor Loss() {
    return (a.to(torch::kFloat32) - 1).square().mean() +
           (b.to(torch::kFloat32) + 1).square().mean();
  }
  torch::Tensor a, b;
};

TEST_P(AttachTorchTest, APassThatDoesNotReachAParameterCountsAsZeros) {
  auto group = Self();
  for (torch::ScalarType type : {torch::kFloat32, torch::kBFloat16}) {
    Pair net(type);
    OptimizerOptions options = FormOptions();
    options.absent_gradients = AbsentGradients::kError;
    options.reduction = Reduction::kSum;
    options.max_grad_norm = 1e9;
    options.micro_steps = 3;
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, options, *group));
    (net.a.sum() + 2 * net.b.sum()).backward();
    net.a.sum().backward();
    net.a.sum().backward();
    ASSERT_OK_AND_ASSIGN(const StepReport report, sharded->Step({0.01}));
    // 16 elements each of gradient 3 and 2.
    EXPECT_NEAR(report.grad_norm, std::sqrt(16.0 * (9 + 4)), 1e-5);
  }
}

TEST_P(AttachTorchTest, TrainsBFloat16WeightsOverMicroSteps) {
  auto group = Self();
  Pair net(torch::kBFloat16);
  OptimizerOptions options = FormOptions();
  options.micro_steps = 2;
  options.hyper_groups[0].weight_decay = 0;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, options, *group));
  for (int step = 0; step < 40; ++step) {
    for (int micro = 0; micro < 2; ++micro) {
      net.Loss().backward();
      // The mean is the optimizer's, in fp32: nothing waits here.
      EXPECT_TRUE(net.a.grad().is_meta());
    }
    ASSERT_OK(sharded->Step({0.05}));
  }
  EXPECT_LT(net.Loss().item<float>(), 0.01);
  EXPECT_EQ(net.a.scalar_type(), torch::kBFloat16);
}

INSTANTIATE_TEST_SUITE_P(Forms, AttachTorchTest,
                         testing::Values(Form{MemoryForm::kExternal, 1},
                                         Form{MemoryForm::kExternal, 2},
                                         Form{MemoryForm::kFlat, 1},
                                         Form{MemoryForm::kFlat, 2}));

TEST(AttachTorchErrorTest, OneBackwardTooManyIsToldByStep) {
  auto group = Self();
  Net net;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, Options(), *group));
  net.Loss(Tokens(0, 12)).backward();
  net.Loss(Tokens(0, 12)).backward();
  EXPECT_THAT(sharded->Step({0.01}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       AllOf(HasSubstr("backward pass 2"),
                             HasSubstr("micro_steps is 1"))));
}

TEST(AttachTorchErrorTest, RanksMustMakeTheSameNumberOfMicroSteps) {
  for (int micro_steps : {1, 3}) {
    RunRanks(2, [micro_steps](int rank, Communicator& group) {
      Net net;
      OptimizerOptions options = Options();
      options.micro_steps = rank == 0 ? micro_steps : 2;
      EXPECT_THAT(
          AttachTorch(net, options, group),
          StatusIs(absl::StatusCode::kInvalidArgument,
                   HasSubstr(absl::StrCat("micro_steps: 2 on rank 1 but ",
                                          micro_steps, " on rank 0"))));
    });
  }
}

TEST(AttachTorchErrorTest, NamesTheGradientThatNeverCame) {
  auto group = Self();
  Net net;
  OptimizerOptions options = Options();
  options.absent_gradients = AbsentGradients::kError;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, options, *group));
  const auto before = Weights(net);
  net.Loss(Tokens(0, 12)).backward();
  EXPECT_THAT(sharded->Step({0.01}).status().message(), HasSubstr("unused"));
  EXPECT_EQ(Distance(Weights(net), before), 0);
}

TEST(AttachTorchErrorTest, NamesAParameterOfAnUnknownType) {
  struct Wide : torch::nn::Module {
    Wide() {
      register_parameter("wide", torch::zeros({2, 2}, torch::kFloat64));
    }
  };
  auto group = Self();
  Wide net;
  EXPECT_THAT(AttachTorch(net, Options(), *group).status(),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'wide'"), HasSubstr("Double"))));
}

TEST(AttachTorchErrorTest, NamesAParameterThatIsNotContiguous) {
  struct Turned : torch::nn::Module {
    Turned() { register_parameter("turned", torch::zeros({2, 3}).t()); }
  };
  auto group = Self();
  Turned net;
  EXPECT_THAT(
      AttachTorch(net, Options(), *group).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("'turned'")));
}

TEST(AttachTorchSpecTest, ListsATiedTensorOnceAndFreezesWhatNeedsNoGradient) {
  auto group = Self();
  Net net;
  std::vector<std::string> names;
  TorchAttachOptions attach;
  attach.adjust = [&](ParamSpec& spec) {
    names.push_back(spec.name + (spec.frozen ? " frozen" : ""));
  };
  ASSERT_OK_AND_ASSIGN(auto sharded,
                       AttachTorch(net, Options(), *group, attach));
  EXPECT_THAT(names, testing::ElementsAre("embedding", "fixed frozen", "weight",
                                          "bias", "unused"));
}

TEST(AttachTorchSpecTest, TiesTensorsThatShareMemory) {
  struct Shared : torch::nn::Module {
    Shared() {
      a = register_parameter("a", torch::ones({4, 3}));
      b = register_parameter("b", a.detach().clone());
      b.set_data(a.detach());
    }
    torch::Tensor a, b;
  };
  for (const Form& form :
       {Form{MemoryForm::kExternal, 1}, Form{MemoryForm::kFlat, 1},
        Form{MemoryForm::kFlat, 3}}) {
    auto group = Self();
    Shared net;
    OptimizerOptions options = Options();
    options.memory = form.memory;
    options.stage = form.stage;
    options.hyper_groups[0].weight_decay = 0;
    ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, options, *group));
    if (form.stage == 3) {
      ASSERT_OK(sharded->Gather(kNoLayerSet));
    }
    (net.a.sum() - 0.5 * net.b.sum()).backward();
    ASSERT_OK(sharded->Step({0.25}));
    ASSERT_OK(sharded->Detach());
    // The sum of both gradients is positive: down by the learning rate.
    EXPECT_TRUE(torch::allclose(net.a, torch::full({4, 3}, 0.75)));
    EXPECT_TRUE(torch::equal(net.a, net.b));
    EXPECT_EQ(net.a.data_ptr(), net.b.data_ptr());
  }
}

}  // namespace
}  // namespace zeromini
