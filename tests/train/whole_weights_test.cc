// Stage 3: what happens to who reads a weight that is in shards, and how a
// whole module is read all the same.

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

using testing::HasSubstr;

struct NetImpl : torch::nn::Module {
  NetImpl() {
    embedding =
        register_parameter("embedding", torch::arange(24.0F).view({6, 4}));
    for (int i = 0; i < 3; ++i) {
      layers.push_back(register_parameter(
          std::to_string(i),
          torch::full({4, 4}, 0.25F * static_cast<float>(i))));
    }
    head = register_parameter("head", embedding.detach().clone());
    head.set_data(embedding.detach());
  }
  torch::Tensor embedding, head;
  std::vector<torch::Tensor> layers;
};
TORCH_MODULE(Net);

OptimizerOptions Options() {
  OptimizerOptions options;
  options.algorithm = Algorithm::kSgd;
  options.hyper_groups[0].weight_decay = 0;
  options.memory = MemoryForm::kFlat;
  options.stage = 3;
  return options;
}

// Each layer is a layer set, the rest is -1.
absl::StatusOr<std::unique_ptr<TorchOptimizer>> Attach(
    Net& net, Communicator& group, OptimizerOptions options = Options()) {
  TorchAttachOptions attach;
  attach.adjust = [](ParamSpec& spec) {
    if (spec.name.size() == 1) spec.layer_set = spec.name[0] - '0';
  };
  return AttachTorch(*net, options, group, attach);
}

std::vector<torch::Tensor> Copies(const Net& net) {
  std::vector<torch::Tensor> copies;
  for (const torch::Tensor& tensor : net->parameters()) {
    copies.push_back(tensor.detach().clone());
  }
  return copies;
}

void ExpectEqual(const std::vector<torch::Tensor>& actual,
                 const std::vector<torch::Tensor>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_TRUE(torch::equal(actual[i], expected[i])) << i;
  }
}

TEST(WholeWeightsTest, ReadingAReleasedWeightThrows) {
  auto group = Self();
  Net net;
  ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, *group));
  const torch::Tensor& weight = net->layers[1];
  const torch::Tensor x = torch::ones({2, 4});
  EXPECT_THROW(weight.norm(), c10::Error);
  EXPECT_THROW(weight.clone(), c10::Error);
  EXPECT_THROW(weight.detach().sum(), c10::Error);
  EXPECT_THROW(weight + 1, c10::Error);
  EXPECT_THROW(torch::matmul(x, weight), c10::Error);
  EXPECT_THROW(torch::linear(x, weight), c10::Error);
  EXPECT_THROW(torch::embedding(net->head, torch::tensor({1})), c10::Error);
  EXPECT_THROW(weight.data_ptr(), c10::Error);
  EXPECT_THROW(weight.data_ptr<float>(), c10::Error);
  EXPECT_THROW(weight[0][0].item<float>(), c10::Error);
  EXPECT_THROW(torch::nn::utils::parameters_to_vector(net->parameters()),
               c10::Error);
  EXPECT_THROW(net->to(torch::kFloat64), c10::Error);
  std::stringstream file;
  EXPECT_THROW(torch::save(net, file), c10::Error);
  torch::NoGradGuard no_grad;
  EXPECT_THROW(weight.zero_(), c10::Error);
  EXPECT_THROW(weight.copy_(torch::ones({4, 4})), c10::Error);
}

TEST(WholeWeightsTest, AWeightIsReadableBetweenGatherAndRelease) {
  auto group = Self();
  Net net;
  ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, *group));
  ASSERT_OK(sharded->Gather(1));
  EXPECT_EQ(net->layers[1].sum().item<float>(), 4);
  EXPECT_THROW(net->layers[2].sum(), c10::Error);
  ASSERT_OK(sharded->Release(1));
  EXPECT_THROW(net->layers[1].sum(), c10::Error);
  ASSERT_OK(sharded->Gather(kNoLayerSet));
  EXPECT_EQ(net->head.sum().item<float>(), 276);
  EXPECT_EQ(net->head.data_ptr(), net->embedding.data_ptr());
}

TEST(WholeWeightsTest, AWeightIsReleasedStillAfterTheOptimizerIsGone) {
  auto group = Self();
  Net net;
  { ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, *group)); }
  EXPECT_THROW(net->layers[1].sum(), c10::Error);
  EXPECT_THAT(
      Attach(net, *group).status(),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("no memory")));
}

TEST(WholeWeightsTest, AModuleIsSavedWholeWithinABudgetForOneGroup) {
  const std::vector<torch::Tensor> expected = Copies(Net());
  RunRanks(2, [&](int rank, Communicator& group) {
    Net net;
    OptimizerOptions options = Options();
    options.gather_budget_bytes = 512;
    options.prefetch = 0;
    ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, group, options));
    std::stringstream file;
    const auto save = [&] {
      torch::save(net, file);
      return absl::OkStatus();
    };
    // One rank saves, the others take part.
    ASSERT_OK(sharded->WithWholeWeights(
        rank == 1 ? std::function<absl::Status()>(save) : nullptr));
    EXPECT_THROW(net->layers[1].sum(), c10::Error);
    if (rank == 1) {
      Net loaded;
      torch::load(loaded, file);
      ExpectEqual(Copies(loaded), expected);
    }
    for (int i : {kNoLayerSet, 0, 1, 2}) {
      ASSERT_OK(sharded->Gather(i));
      for (const torch::Tensor& tensor : net->parameters()) {
        if (tensor.has_storage()) tensor.sum().backward();
      }
      ASSERT_OK(sharded->Release(i));
    }
    ASSERT_OK(sharded->Step({0.5}));
    ASSERT_OK(sharded->WithWholeWeights([&] {
      EXPECT_TRUE(torch::equal(net->layers[1], expected[2] - 0.5));
      EXPECT_TRUE(torch::equal(net->head, expected[0] - 1));
      return absl::OkStatus();
    }));
  });
}

// Two layers are gathered, and a third has no room.
TEST(WholeWeightsTest, WhatIsGatheredTakesNoRoomFromDetachNorFromACopy) {
  for (bool detach : {false, true}) {
    auto group = Self();
    Net net;
    const std::vector<torch::Tensor> expected = Copies(net);
    OptimizerOptions options = Options();
    options.gather_budget_bytes = 2 * 4 * 4 * sizeof(float);
    options.prefetch = 0;
    ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, *group, options));
    ASSERT_OK(sharded->Gather(1));
    ASSERT_OK(sharded->Gather(2));
    ASSERT_THAT(sharded->Gather(0),
                StatusIs(absl::StatusCode::kResourceExhausted));
    const auto read = [&] {
      ExpectEqual(Copies(net), expected);
      return absl::OkStatus();
    };
    if (detach) {
      EXPECT_OK(sharded->Detach());
      read().IgnoreError();
    } else {
      EXPECT_OK(sharded->WithWholeWeights(read));
    }
  }
}

TEST(WholeWeightsTest, ADetachThatFailedSaysSoAgainOnEveryRank) {
  RunRanks(2, [](int rank, Communicator& group) {
    Net net;
    ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, group));
    if (rank == 1) net->layers[1].set_data(torch::ones({4, 4}));
    const absl::Status first = sharded->Detach();
    EXPECT_FALSE(first.ok());
    EXPECT_THAT(first.message(), HasSubstr("'1'"));
    EXPECT_EQ(sharded->Detach(), first);
  });
}

// Such a tensor has no memory either, but can be given none.
void MakeSparse(const torch::Tensor& tensor) {
  const torch::Tensor sparse = torch::ones({4, 4}).to_sparse();
  tensor.unsafeGetTensorImpl()->shallow_copy_from(sparse.getIntrusivePtr());
}

TEST(WholeWeightsTest, WhatTorchThrowsInGatherOrReleaseReachesEveryRank) {
  for (bool gathered : {false, true}) {
    RunRanks(2, [&](int rank, Communicator& group) {
      Net net;
      ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, group));
      if (gathered) {
        ASSERT_OK(sharded->Gather(1));
      }
      if (rank == 1) MakeSparse(net->layers[1]);
      absl::Status status = gathered ? sharded->Release(1) : sharded->Gather(1);
      if (rank == 1) {
        EXPECT_THAT(status, StatusIs(absl::StatusCode::kInternal,
                                     HasSubstr("incompatible tensor type")));
      }
      if (status.ok()) status = sharded->Gather(2);
      if (status.ok()) status = sharded->optimizer().WaitAll();
      EXPECT_THAT(status.message(), HasSubstr("incompatible tensor type"));
    });
  }
}

TEST(WholeWeightsTest, WhatTheBodySaysOrThrowsIsReturned) {
  for (int stage : {1, 3}) {
    auto group = Self();
    Net net;
    OptimizerOptions options = Options();
    options.stage = stage;
    ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, *group, options));
    EXPECT_THAT(sharded->WithWholeWeights(
                    [] { return absl::UnavailableError("disk full"); }),
                StatusIs(absl::StatusCode::kUnavailable));
    EXPECT_THAT(sharded->WithWholeWeights([&]() -> absl::Status {
      torch::matmul(net->head, net->head);
      return absl::OkStatus();
    }),
                StatusIs(absl::StatusCode::kInternal, HasSubstr("mat1")));
    EXPECT_OK(sharded->WithWholeWeights(nullptr));
  }
}

TEST(WholeWeightsTest, WeightsGivenOtherMemoryAreToldByRelease) {
  auto group = Self();
  Net net;
  ASSERT_OK_AND_ASSIGN(auto sharded, Attach(net, *group));
  ASSERT_OK(sharded->Gather(1));
  net->layers[1].set_data(torch::ones({4, 4}));
  EXPECT_THAT(
      sharded->Release(1),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("'1'")));
  EXPECT_EQ(net->layers[1].sum().item<float>(), 16);
}

}  // namespace
}  // namespace zeromini
