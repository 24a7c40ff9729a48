#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "support/run_ranks.h"
#include "support/status_matchers.h"
#include "tools/train/language_model.h"
#include "zeromini/torch.h"

namespace zeromini::tools {
namespace {

using testing::HasSubstr;

constexpr int kRanks = 2;
constexpr int kLayers = 4;
constexpr int kOutside = kNoLayerSet;

std::shared_ptr<LanguageModel> SmallModel(const std::string& name) {
  ModelConfig config = *NamedConfig(name);
  config.hidden = 16;
  config.layers = kLayers;
  config.heads = 2;
  config.kv_heads = name == "gpt2" ? 2 : 1;
  config.ffn = 24;
  config.context = 8;
  EXPECT_OK(Complete(config));
  auto model = MakeModel(config);
  model->Initialize(3);
  return model;
}

torch::Tensor Tokens(int rank, int pass) {
  return torch::arange(3 * 9, torch::kInt64)
      .mul(31)
      .add(7 * rank + 3 * pass)
      .remainder(256)
      .view({3, 9});
}

OptimizerOptions Options(int stage) {
  OptimizerOptions options;
  options.memory = MemoryForm::kFlat;
  options.stage = stage;
  options.micro_steps = 2;
  options.model.hidden = 16;
  options.model.heads = 2;
  options.model.head_dim = 8;
  return options;
}

absl::StatusOr<std::unique_ptr<TorchOptimizer>> Attach(
    LanguageModel& model, const OptimizerOptions& options,
    Communicator& group) {
  TorchAttachOptions attach;
  attach.adjust = [](ParamSpec& spec) {  // GPT-2's Conv1D.
    spec.output_is_last =
        spec.shape.size() == 2 && absl::StrContains(spec.name, ".h.");
  };
  return AttachTorch(model, options, group, attach);
}

// What is outside of the blocks, one block and the next.
int64_t TightBudget(const Plan& plan) {
  int64_t block = 0;
  for (int i = 0; i < kLayers; ++i) {
    block = std::max(block, GatherBytes(plan, i));
  }
  return GatherBytes(plan, kOutside) + 2 * block;
}

// Looks at the memory wherever a block begins or ends, in backward, too.
class WatchingGate : public BlockGate {
 public:
  explicit WatchingGate(TorchOptimizer& sharded) : sharded_(sharded) {}

  torch::Tensor Before(int block, const torch::Tensor& x) override {
    return Watched(sharded_.Before(block, Watched(x)));
  }
  torch::Tensor After(int block, const torch::Tensor& x) override {
    return Watched(sharded_.After(block, Watched(x)));
  }

  int64_t most() const { return most_; }
  int looks() const { return looks_; }

 private:
  torch::Tensor Watched(const torch::Tensor& x) {
    Look();
    if (x.requires_grad()) {
      x.register_hook([this](const torch::Tensor&) { Look(); });
    }
    return x;
  }
  void Look() {
    most_ = std::max(most_, sharded_.optimizer().Memory().gathered);
    ++looks_;
  }

  TorchOptimizer& sharded_;
  int64_t most_ = 0;
  int looks_ = 0;
};

struct Outcome {
  std::vector<float> losses;
  std::vector<torch::Tensor> weights;
  int64_t budget = 0;
  int64_t most = 0;
  int looks = 0;
};

void TrainSteps(TorchOptimizer& sharded, LanguageModel& model, int rank,
                Outcome* outcome) {
  const bool gathers = sharded.optimizer().plan().options.stage == 3;
  for (int step = 0; step < 3; ++step) {
    if (gathers) {
      ASSERT_OK(sharded.Gather(kOutside));
    }
    for (int micro = 0; micro < 2; ++micro) {
      const torch::Tensor loss = model.Loss(Tokens(rank, 2 * step + micro));
      outcome->losses.push_back(loss.item<float>());
      loss.backward();
    }
    ASSERT_OK(sharded.Step({0.01}));
    torch::NoGradGuard no_grad;
    if (gathers) {
      ASSERT_OK(sharded.Gather(kOutside));
    }
    outcome->losses.push_back(model.Loss(Tokens(rank, 100)).item<float>());
    if (gathers) {
      ASSERT_OK(sharded.Release(kOutside));
    }
  }
}

// Rank 0's.
Outcome Train(const std::string& name, OptimizerOptions options,
              bool tight = false) {
  Outcome outcomes[kRanks];
  RunRanks(kRanks, [&](int rank, Communicator& group) {
    torch::set_num_threads(1);
    Outcome& outcome = outcomes[rank];
    auto model = SmallModel(name);
    OptimizerOptions own = options;
    if (tight) {
      auto other = SmallModel(name);
      ASSERT_OK_AND_ASSIGN(auto sized, Attach(*other, own, group));
      own.gather_budget_bytes = TightBudget(sized->optimizer().plan());
    }
    outcome.budget = own.gather_budget_bytes;
    ASSERT_OK_AND_ASSIGN(auto sharded, Attach(*model, own, group));
    WatchingGate gate(*sharded);
    model->SetGate(&gate);
    TrainSteps(*sharded, *model, rank, &outcome);
    model->SetGate(nullptr);
    outcome.most = gate.most();
    outcome.looks = gate.looks();
    ASSERT_OK(sharded->Detach());
    for (const torch::Tensor& tensor : model->parameters()) {
      outcome.weights.push_back(tensor.detach().clone());
    }
  });
  return outcomes[0];
}

void ExpectSame(const Outcome& actual, const Outcome& expected) {
  EXPECT_EQ(actual.losses, expected.losses);
  ASSERT_EQ(actual.weights.size(), expected.weights.size());
  for (size_t i = 0; i < expected.weights.size(); ++i) {
    EXPECT_TRUE(torch::equal(actual.weights[i], expected.weights[i])) << i;
  }
}

class Stage3Test : public testing::TestWithParam<const char*> {};

TEST_P(Stage3Test, TrainsAsStage2WithAnyPrefetchBitForBit) {
  const Outcome expected = Train(GetParam(), Options(2));
  ASSERT_EQ(expected.losses.size(), 9u);
  for (int prefetch : {0, 1, 3}) {
    OptimizerOptions options = Options(3);
    options.prefetch = prefetch;
    ExpectSame(Train(GetParam(), options), expected);
  }
}

TEST_P(Stage3Test, NeverHoldsMoreThanTheBudget) {
  const Outcome expected = Train(GetParam(), Options(2));
  const Outcome free = Train(GetParam(), Options(3));
  const Outcome tight = Train(GetParam(), Options(3), true);
  ExpectSame(tight, expected);
  EXPECT_GT(tight.most, 0);
  EXPECT_LE(tight.most, tight.budget);
  // Forward and backward of two passes and a forward alone, in three steps: the
  // hooks have looked, too.
  EXPECT_GT(tight.looks, 3 * (2 * 2 + 1) * 2 * 2 * (kLayers - 1));
  EXPECT_GT(free.most, 0);
}

TEST_P(Stage3Test, SixteenBitWeightsTrainAsStage2BitForBit) {
  std::vector<Outcome> outcomes;
  for (int stage : {2, 3}) {
    Outcome& outcome = outcomes.emplace_back();
    RunRanks(kRanks, [&](int rank, Communicator& group) {
      Outcome mine;
      auto model = SmallModel(GetParam());
      model->to(torch::kBFloat16);
      ASSERT_OK_AND_ASSIGN(auto sharded, Attach(*model, Options(stage), group));
      WatchingGate gate(*sharded);
      model->SetGate(&gate);
      TrainSteps(*sharded, *model, rank, &mine);
      model->SetGate(nullptr);
      if (rank == 0) outcome = mine;
    });
  }
  ExpectSame(outcomes[1], outcomes[0]);
}

INSTANTIATE_TEST_SUITE_P(Both, Stage3Test, testing::Values("llama", "gpt2"));

class Stage3AloneTest : public testing::Test {
 protected:
  void Begin(const OptimizerOptions& options) {
    ASSERT_OK_AND_ASSIGN(sharded_, Attach(*model_, options, *group_));
    gate_ = std::make_unique<WatchingGate>(*sharded_);
    model_->SetGate(gate_.get());
    ASSERT_OK(sharded_->Gather(kOutside));
  }
  // Names of what has memory, of parameters that are in a layer.
  std::vector<std::string> InMemory() const {
    std::vector<std::string> names;
    for (const auto& item : model_->named_parameters()) {
      if (absl::StrContains(item.key(), ".layers.") &&
          item.value().has_storage()) {
        names.push_back(item.key());
      }
    }
    return names;
  }

  std::unique_ptr<Communicator> group_ = Self();
  std::shared_ptr<LanguageModel> model_ = SmallModel("llama");
  std::unique_ptr<TorchOptimizer> sharded_;
  std::unique_ptr<WatchingGate> gate_;
};

TEST_F(Stage3AloneTest, NoBlockIsInMemoryAfterBackward) {
  ASSERT_NO_FATAL_FAILURE(Begin(Options(3)));
  EXPECT_THAT(InMemory(), testing::IsEmpty());
  const torch::Tensor loss = model_->Loss(Tokens(0, 0));
  // The last block, which backward begins with.
  EXPECT_THAT(InMemory(), testing::Each(HasSubstr(".layers.3.")));
  EXPECT_EQ(InMemory().size(), 9u);
  loss.backward();
  EXPECT_THAT(InMemory(), testing::IsEmpty());
}

TEST_F(Stage3AloneTest, EveryGradientComesBeforeItsBlockIsReleased) {
  ASSERT_NO_FATAL_FAILURE(Begin(Options(3)));
  int gradients = 0;
  int late = 0;
  for (const auto& item : model_->named_parameters()) {
    const torch::Tensor tensor = item.value();
    tensor.register_hook([tensor, &gradients, &late](const torch::Tensor&) {
      ++gradients;
      if (!tensor.has_storage()) ++late;
    });
  }
  model_->Loss(Tokens(0, 0)).backward();
  EXPECT_EQ(gradients, 9 * kLayers + 3);
  EXPECT_EQ(late, 0);
}

TEST_F(Stage3AloneTest, NoBlockIsInMemoryAfterAnEvaluation) {
  ASSERT_NO_FATAL_FAILURE(Begin(Options(3)));
  torch::NoGradGuard no_grad;
  model_->Loss(Tokens(0, 0));
  EXPECT_THAT(InMemory(), testing::IsEmpty());
  EXPECT_OK(sharded_->status());
}

TEST_F(Stage3AloneTest, TheFirstBlockIsReleasedThoughItsInputNeedsNoGradient) {
  for (auto& item : model_->named_parameters()) {
    if (absl::StrContains(item.key(), "embed_tokens")) {
      item.value().requires_grad_(false);
    }
  }
  ASSERT_NO_FATAL_FAILURE(Begin(Options(3)));
  for (int micro = 0; micro < 2; ++micro) {
    model_->Loss(Tokens(0, micro)).backward();
    EXPECT_THAT(InMemory(), testing::IsEmpty()) << micro;
  }
  EXPECT_OK(sharded_->Step({0.01}));
}

TEST_F(Stage3AloneTest, ABlockThatIsFrozenIsWhole) {
  for (auto& item : model_->named_parameters()) {
    if (absl::StrContains(item.key(), ".layers.1.")) {
      item.value().requires_grad_(false);
    }
  }
  ASSERT_NO_FATAL_FAILURE(Begin(Options(3)));
  for (int micro = 0; micro < 2; ++micro) {
    model_->Loss(Tokens(0, micro)).backward();
  }
  EXPECT_THAT(InMemory(), testing::Each(HasSubstr(".layers.1.")));
  EXPECT_EQ(InMemory().size(), 9u);
  EXPECT_OK(sharded_->Step({0.01}));
  ASSERT_OK(sharded_->Detach());
  EXPECT_EQ(InMemory().size(), 9u * kLayers);
}

TEST_F(Stage3AloneTest, ABudgetThatIsTooSmallIsToldByStep) {
  OptimizerOptions options = Options(3);
  auto other = SmallModel("llama");
  ASSERT_OK_AND_ASSIGN(auto sized, Attach(*other, options, *group_));
  const Plan& plan = sized->optimizer().plan();
  options.gather_budget_bytes =
      GatherBytes(plan, kOutside) + GatherBytes(plan, 0) / 2;
  ASSERT_NO_FATAL_FAILURE(Begin(options));
  model_->Loss(Tokens(0, 0)).backward();
  EXPECT_THAT(sharded_->Step({0.01}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("gather_budget_bytes")));
}

TEST_F(Stage3AloneTest, AGraphThatOutlivesTheOptimizerDoesNotCallIt) {
  ASSERT_NO_FATAL_FAILURE(Begin(Options(3)));
  torch::Tensor x = torch::ones({2, 2}).requires_grad_();
  const torch::Tensor y = sharded_->Before(0, x) * 2;
  model_->SetGate(nullptr);
  sharded_.reset();
  y.sum().backward();
  EXPECT_EQ(x.grad().sum().item<float>(), 8);
}

}  // namespace
}  // namespace zeromini::tools
