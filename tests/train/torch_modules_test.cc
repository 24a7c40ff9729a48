// What AttachTorch() takes over of a module, leaves alone and refuses.

#include <memory>
#include <string>
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

struct Form {
  MemoryForm memory;
  int stage;
};

constexpr Form kForms[] = {{MemoryForm::kExternal, 1},
                           {MemoryForm::kFlat, 1},
                           {MemoryForm::kFlat, 2},
                           {MemoryForm::kFlat, 3}};

OptimizerOptions Sgd(const Form& form) {
  OptimizerOptions options;
  options.algorithm = Algorithm::kSgd;
  options.hyper_groups[0].weight_decay = 0;
  options.memory = form.memory;
  options.stage = form.stage;
  return options;
}

// Names that `adjust` sees, in order.
TorchAttachOptions Listing(std::vector<std::string>* names) {
  TorchAttachOptions attach;
  attach.adjust = [names](ParamSpec& spec) { names->push_back(spec.name); };
  return attach;
}

// A quantised base under two trained adapters.
struct Base : torch::nn::Module {
  Base() {
    const auto frozen = [this](const char* name, const torch::Tensor& tensor) {
      return register_parameter(name, tensor, false);
    };
    quantized = frozen("quantized", torch::full({4, 4}, 3, torch::kInt8));
    scales = frozen("scales", torch::full({4}, 0.5, torch::kFloat64));
    turned = frozen("turned", torch::ones({4, 2}).t());
    nothing = frozen("nothing", torch::empty({0, 4}));
    rows = frozen("rows", torch::ones({4, 4}));
    first_row = frozen("first_row", rows[0]);
    known = frozen("known", torch::ones({4}));
    empty = register_parameter("empty", torch::empty({0}));
    down = register_parameter("down", torch::zeros({2, 4}));
    up = register_parameter("up", torch::zeros({4, 2}));
  }
  torch::Tensor quantized, scales, turned, nothing, rows, first_row, known;
  torch::Tensor empty, down, up;
};

TEST(TorchModulesTest, FrozenTensorsThatAreOfNoUseAreLeftAlone) {
  for (const Form& form : kForms) {
    auto group = Self();
    Base net;
    const void* turned = net.turned.data_ptr();
    const void* rows = net.rows.data_ptr();
    std::vector<std::string> names;
    ASSERT_OK_AND_ASSIGN(auto sharded,
                         AttachTorch(net, Sgd(form), *group, Listing(&names)));
    EXPECT_THAT(names, ElementsAre("known", "down", "up"));
    if (form.stage == 3) {
      ASSERT_OK(sharded->Gather(kNoLayerSet));
    }
    (net.down.sum() + 2 * net.up.sum()).backward();
    ASSERT_OK(sharded->Step({1}));
    ASSERT_OK(sharded->Detach());
    EXPECT_TRUE(torch::equal(net.down, torch::full({2, 4}, -1.0F)));
    EXPECT_TRUE(torch::equal(net.up, torch::full({4, 2}, -2.0F)));
    EXPECT_EQ(net.turned.data_ptr(), turned);
    EXPECT_EQ(net.rows.data_ptr(), rows);
    EXPECT_EQ(net.first_row.data_ptr(), rows);
    EXPECT_EQ(net.quantized.sum().item<int>(), 48);
  }
}

TEST(TorchModulesTest, Fp32IsTrainedOverMicroStepsBesideFrozenHalves) {
  struct Halves : torch::nn::Module {
    Halves() {
      base =
          register_parameter("base", torch::ones({4}, torch::kBFloat16), false);
      tuned = register_parameter("tuned", torch::zeros({4}));
    }
    torch::Tensor base, tuned;
  };
  auto group = Self();
  Halves net;
  OptimizerOptions options = Sgd({MemoryForm::kExternal, 1});
  options.micro_steps = 2;
  ASSERT_OK_AND_ASSIGN(auto sharded, AttachTorch(net, options, *group));
  EXPECT_EQ(net.base.scalar_type(), torch::kBFloat16);
  (3 * net.tuned.sum()).backward();
  net.tuned.sum().backward();
  ASSERT_OK(sharded->Step({1}));
  EXPECT_TRUE(torch::equal(net.tuned, torch::full({4}, -2.0F)));
}

TEST(TorchModulesTest, WhatIsNotIncludedIsLeftAlone) {
  struct Two : torch::nn::Module {
    Two() {
      ours = register_parameter("ours", torch::zeros({4}));
      theirs = register_parameter("theirs", torch::zeros({4}, torch::kFloat64));
    }
    torch::Tensor ours, theirs;
  };
  for (const Form& form : kForms) {
    RunRanks(2, [&](int rank, Communicator& group) {
      Two net;
      {
        torch::NoGradGuard no_grad;
        net.theirs.fill_(rank);
      }
      TorchAttachOptions attach;
      attach.include = [](const std::string& name, const torch::Tensor&) {
        return name != "theirs";
      };
      ASSERT_OK_AND_ASSIGN(auto sharded,
                           AttachTorch(net, Sgd(form), group, attach));
      if (form.stage == 3) {
        ASSERT_OK(sharded->Gather(kNoLayerSet));
      }
      (net.ours.sum() + 5 * net.theirs.sum()).backward();
      torch::nn::utils::clip_grad_norm_(net.theirs, 1.0);
      ASSERT_OK(sharded->Step({1}));
      ASSERT_OK(sharded->Detach());
      EXPECT_TRUE(torch::equal(net.ours, torch::full({4}, -1.0F)));
      EXPECT_EQ(net.theirs.sum().item<double>(), 4 * rank);
      EXPECT_NEAR(net.theirs.grad().norm().item<double>(), 1, 1e-5);
    });
  }
}

// A mask that is sparse beside a weight that is trained.
struct Masked : torch::nn::Module {
  explicit Masked(const torch::Tensor& sparse, bool trains = false) {
    mask = register_parameter("mask", sparse, trains);
    weight = register_parameter("weight", torch::zeros({4}));
  }
  torch::Tensor mask, weight;
};

std::vector<torch::Tensor> SparseTensors() {
  return {torch::eye(4).to_sparse(), torch::eye(4).to_sparse_csr()};
}

TEST(TorchModulesTest, AFrozenSparseTensorIsLeftAloneIncludedOrNot) {
  for (const torch::Tensor& sparse : SparseTensors()) {
    for (bool included : {false, true}) {
      for (const Form& form : kForms) {
        auto group = Self();
        Masked net(sparse);
        std::vector<std::string> names;
        TorchAttachOptions attach = Listing(&names);
        attach.include = [&](const std::string& name, const torch::Tensor&) {
          return included || name != "mask";
        };
        ASSERT_OK_AND_ASSIGN(auto sharded,
                             AttachTorch(net, Sgd(form), *group, attach));
        EXPECT_THAT(names, ElementsAre("weight"));
        if (form.stage == 3) {
          ASSERT_OK(sharded->Gather(kNoLayerSet));
        }
        net.weight.sum().backward();
        EXPECT_OK(sharded->Step({1}));
        EXPECT_EQ(net.mask.to_dense().sum().item<float>(), 4);
      }
    }
  }
}

TEST(TorchModulesTest, ATrainedSparseTensorIsRefusedWithTheWayOut) {
  for (const torch::Tensor& sparse : SparseTensors()) {
    auto group = Self();
    Masked net(sparse, true);
    EXPECT_THAT(AttachTorch(net, Sgd(kForms[0]), *group),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("'mask'"), HasSubstr("layout"),
                               HasSubstr("include"))));
    group = Self();
    TorchAttachOptions attach;
    attach.include = [](const std::string& name, const torch::Tensor&) {
      return name != "mask";
    };
    EXPECT_OK(AttachTorch(net, Sgd(kForms[0]), *group, attach));
  }
}

TEST(TorchModulesTest, WhatIsLeftOutIsSoUnderEachOfItsNames) {
  struct Twice : torch::nn::Module {
    Twice() {
      ours = register_parameter("ours", torch::zeros({4}));
      first = register_parameter("first", torch::zeros({4}));
      second = register_parameter("second", first);
    }
    torch::Tensor ours, first, second;
  };
  auto group = Self();
  Twice net;
  TorchAttachOptions attach;
  attach.include = [](const std::string& name, const torch::Tensor&) {
    return name != "first";
  };
  ASSERT_OK_AND_ASSIGN(auto sharded,
                       AttachTorch(net, Sgd(kForms[1]), *group, attach));
  (net.ours.sum() + net.second.sum()).backward();
  EXPECT_OK(sharded->Step({1}));
  EXPECT_EQ(net.first.sum().item<float>(), 0);
}

TEST(TorchModulesTest, RanksThatDisagreeOnMicroStepsAreRefused) {
  struct One : torch::nn::Module {
    One() { weight = register_parameter("weight", torch::zeros({4})); }
    torch::Tensor weight;
  };
  RunRanks(2, [](int rank, Communicator& group) {
    One net;
    OptimizerOptions options = Sgd(kForms[0]);
    options.micro_steps = rank == 0 ? 2 : 4;
    EXPECT_THAT(
        AttachTorch(net, options, group).status(),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 AllOf(HasSubstr("4 on rank 1"), HasSubstr("2 on rank 0"))));
  });
}

TEST(TorchModulesTest, ATrainedTensorOfNoUseIsRefusedWithTheWayOut) {
  struct Wide : torch::nn::Module {
    Wide() { register_parameter("wide", torch::zeros({2}, torch::kFloat64)); }
  };
  auto group = Self();
  Wide net;
  EXPECT_THAT(AttachTorch(net, Sgd(kForms[0]), *group),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("'wide'"), HasSubstr("include"))));
}

TEST(TorchModulesTest, AdjustMayFreezeWhatRequiresAGradient) {
  struct Two : torch::nn::Module {
    Two() {
      a = register_parameter("a", torch::ones({4}));
      b = register_parameter("b", torch::zeros({4}));
    }
    torch::Tensor a, b;
  };
  auto group = Self();
  Two net;
  TorchAttachOptions attach;
  attach.adjust = [](ParamSpec& spec) { spec.frozen = spec.name == "a"; };
  ASSERT_OK_AND_ASSIGN(auto sharded,
                       AttachTorch(net, Sgd(kForms[1]), *group, attach));
  (net.a.sum() + net.b.sum()).backward();
  ASSERT_OK(sharded->Step({1}));
  EXPECT_TRUE(torch::equal(net.a, torch::ones({4})));
  EXPECT_TRUE(torch::equal(net.b, torch::full({4}, -1.0F)));
}

// Two parameters over one storage, of `count` elements from `offset` on.
struct Views : torch::nn::Module {
  Views(int64_t offset, int64_t count, bool second_trains = true) {
    memory = torch::zeros({8});
    first = register_parameter("first", torch::zeros({6}));
    second = register_parameter("second", torch::zeros({count}), second_trains);
    first.set_data(memory.slice(0, 0, 6));
    second.set_data(memory.slice(0, offset, offset + count));
  }
  torch::Tensor memory, first, second;
};

TEST(TorchModulesTest, ParametersThatShareAPartOfTheirMemoryAreRefused) {
  for (const Form& form : kForms) {
    for (int64_t offset : {0, 2, 5}) {
      auto group = Self();
      Views net(offset, 2);
      EXPECT_THAT(AttachTorch(net, Sgd(form), *group),
                  StatusIs(absl::StatusCode::kInvalidArgument,
                           AllOf(HasSubstr("'first'"), HasSubstr("'second'"),
                                 HasSubstr("share"))))
          << offset;
    }
    auto group = Self();
    Views apart(6, 2);
    EXPECT_OK(AttachTorch(apart, Sgd(form), *group));
  }
}

TEST(TorchModulesTest, AFrozenViewOfTrainedMemoryStaysOneUnlessThatIsMoved) {
  {
    auto group = Self();
    Views net(2, 2, false);
    ASSERT_OK_AND_ASSIGN(auto sharded,
                         AttachTorch(net, Sgd(kForms[0]), *group));
    net.first.sum().backward();
    ASSERT_OK(sharded->Step({1}));
    EXPECT_TRUE(torch::equal(net.second, torch::full({2}, -1.0F)));
  }
  for (const Form& form : {kForms[1], kForms[3]}) {
    auto group = Self();
    Views net(2, 2, false);
    EXPECT_THAT(AttachTorch(net, Sgd(form), *group),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         AllOf(HasSubstr("'first'"), HasSubstr("'second'"))));
  }
}

TEST(TorchModulesTest, ABufferOverMemoryThatIsMovedIsRefused) {
  struct Buffered : torch::nn::Module {
    Buffered() {
      weight = register_parameter("weight", torch::zeros({4}));
      copy = register_buffer("copy", weight.detach());
    }
    torch::Tensor weight, copy;
  };
  auto group = Self();
  Buffered net;
  EXPECT_THAT(AttachTorch(net, Sgd(kForms[1]), *group),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("parameter 'weight'"),
                             HasSubstr("buffer 'copy'"))));
  group = Self();
  EXPECT_OK(AttachTorch(net, Sgd(kForms[0]), *group));
}

TEST(TorchModulesTest, ASecondOptimizerOverAModuleIsTold) {
  struct One : torch::nn::Module {
    One() { weight = register_parameter("weight", torch::zeros({4})); }
    torch::Tensor weight;
  };
  auto group = Self();
  auto other = Self();
  One net;
  ASSERT_OK_AND_ASSIGN(auto first, AttachTorch(net, Sgd(kForms[0]), *group));
  ASSERT_OK_AND_ASSIGN(auto second, AttachTorch(net, Sgd(kForms[0]), *other));
  net.weight.sum().backward();
  EXPECT_THAT(second->Step({1}).status().message(),
              AllOf(HasSubstr("'weight'"), HasSubstr("still attached")));
}

}  // namespace
}  // namespace zeromini
