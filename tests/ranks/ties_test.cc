// Parameters that share storage: several gradients add up, in every memory
// form and order.

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;

// Indices of the model below.
constexpr int kEmbedding = 0;
constexpr int kBeside = 1;
constexpr int kHead = 2;

constexpr int64_t kElements = 12 * 8;

// Columns as rows need a copy, so a bucket of them is packed.
std::vector<ParamSpec> TiedModel(bool packed = false) {
  std::vector<ParamSpec> specs = {
      Spec("embedding", {12, 8}, BlockRule::Rows(), -1),
      Spec("beside", {12, 8}, BlockRule::Rows(), -1),
      Spec("head", {12, 8}, BlockRule::Rows(), -1)};
  specs[kHead].tied_to = "embedding";
  for (ParamSpec& spec : specs) spec.output_is_last = packed;
  return specs;
}

// A weight moves by minus the sum of all its gradients, at learning rate 1.
OptimizerOptions PlainSums(int micro_steps) {
  OptimizerOptions options = ExactOptions();
  options.algorithm = Algorithm::kSgd;
  options.memory = MemoryForm::kFlat;
  options.micro_steps = micro_steps;
  options.hyper_groups[0].beta1 = 0;
  options.hyper_groups[0].weight_decay = 0;
  return options;
}

// One rank of the model in flat memory. Gradients are constant tensors.
class TiedRank {
 public:
  TiedRank(const OptimizerOptions& options, bool packed, Communicator& group) {
    auto made = MakeOptimizer(options, TiedModel(packed), group);
    EXPECT_OK(made);
    if (!made.ok()) return;
    optimizer_ = *std::move(made);
    for (int p : {kEmbedding, kBeside}) {
      std::fill_n(Weights(p), kElements, 0.0f);
    }
  }

  Optimizer& operator*() { return *optimizer_; }
  Optimizer* operator->() { return optimizer_.get(); }
  bool ok() const { return optimizer_ != nullptr; }
  bool InPlace() const {
    const zeromini::Plan& plan = optimizer_->plan();
    return plan.buckets[plan.params[kEmbedding].buckets.at(0)].in_place();
  }

  absl::Status ByPointer(int param, float value) {
    const std::vector<float> gradient(kElements, value);
    return optimizer_->GradReady(param, gradient.data());
  }
  // As autograd would: adds to what is at home, if there is a home.
  void Accumulate(int param, float value) {
    float* home = optimizer_->GradData(param);
    for (int64_t i = 0; home != nullptr && i < kElements; ++i) home[i] += value;
  }
  absl::Status AtHome(int param, float value) {
    Accumulate(param, value);
    return optimizer_->GradReady(param, nullptr);
  }
  void ZeroHome(int param) {
    float* home = optimizer_->GradData(param);
    if (home != nullptr) std::fill_n(home, kElements, 0.0f);
  }
  std::vector<float> Read(int param) {
    return std::vector<float>(Weights(param), Weights(param) + kElements);
  }

 private:
  float* Weights(int param) {
    return static_cast<float*>(optimizer_->ParamData(param));
  }

  std::unique_ptr<Optimizer> optimizer_;
};

// Two steps, with the gradients of a micro-step in `order`. What has a home
// is given there, the rest by pointer.
void ExpectSums(int ranks, bool packed, int micro_steps,
                const std::vector<int>& order) {
  RunRanks(ranks, [&](int, Communicator& group) {
    TiedRank rank(PlainSums(micro_steps), packed, group);
    ASSERT_TRUE(rank.ok());
    EXPECT_EQ(rank.InPlace(), !packed);
    constexpr float kParts[] = {1, 4, 16};  // Which one is lost, shows.
    for (int step = 1; step <= 2; ++step) {
      for (int p : {kEmbedding, kBeside}) rank.ZeroHome(p);
      for (int micro = 0; micro < micro_steps; ++micro) {
        // Backward comes first, then all that it brought is given.
        for (int p : {kEmbedding, kBeside}) rank.Accumulate(p, kParts[p]);
        for (int p : order) {
          ASSERT_OK(p != kHead && rank->GradData(p) != nullptr
                        ? rank->GradReady(p, nullptr)
                        : rank.ByPointer(p, kParts[p]));
        }
      }
      ASSERT_OK(rank->Step({1}));
      const float times = float(step * ranks * micro_steps);
      EXPECT_THAT(rank.Read(kEmbedding), Each(-17 * times));
      EXPECT_THAT(rank.Read(kBeside), Each(-4 * times));
      EXPECT_THAT(rank.Read(kHead), Each(-17 * times));
    }
  });
}

TEST(TiesTest, InFlatMemoryAtStage1NoGradientIsLostInAnyOrder) {
  for (const std::vector<int>& order :
       {std::vector<int>{kHead, kBeside, kEmbedding},
        std::vector<int>{kEmbedding, kHead, kBeside},
        std::vector<int>{kBeside, kEmbedding, kHead}}) {
    for (int micro_steps : {1, 2, 4}) {
      for (bool packed : {false, true}) {
        ExpectSums(1, packed, micro_steps, order);
        ExpectSums(3, packed, micro_steps, order);
      }
    }
  }
}

TEST(TiesTest, WhatSeveralNamesShareHasNoGradDataAndSaysSo) {
  for (bool packed : {false, true}) {
    RunRanks(3, [&](int, Communicator& group) {
      TiedRank rank(PlainSums(1), packed, group);
      ASSERT_TRUE(rank.ok());
      EXPECT_EQ(rank->GradData(kEmbedding), nullptr);
      EXPECT_EQ(rank->GradData(kHead), nullptr);
      EXPECT_NE(rank->GradData(kBeside), nullptr);
      EXPECT_THAT(
          rank->GradReady(kHead, nullptr),
          StatusIs(kInvalid, AllOf(HasSubstr("gradient of 'head' is null"),
                                   HasSubstr("tied to 'embedding'"),
                                   HasSubstr("pass its pointer"))));
      EXPECT_THAT(
          rank->GradReady(kEmbedding, nullptr),
          StatusIs(kInvalid, AllOf(HasSubstr("gradient of 'embedding' is null"),
                                   HasSubstr("'head' is tied to it"),
                                   HasSubstr("pass its pointer"))));
    });
  }
}

TEST(TiesTest, ATiedTensorWithoutGradientsKeepsNothingOfTheStepBefore) {
  for (bool packed : {false, true}) {
    RunRanks(3, [&](int, Communicator& group) {
      OptimizerOptions options = PlainSums(1);
      options.absent_gradients = AbsentGradients::kSkip;
      TiedRank rank(options, packed, group);
      ASSERT_TRUE(rank.ok());
      ASSERT_OK(rank.ByPointer(kHead, 2));
      ASSERT_OK(rank->Step({1}));
      EXPECT_THAT(rank.Read(kEmbedding), Each(-6));
      rank.ZeroHome(kBeside);
      ASSERT_OK(rank.AtHome(kBeside, 1));
      ASSERT_OK_AND_ASSIGN(const StepReport report, rank->Step({1}));
      EXPECT_EQ(report.absent_params, 1);
      EXPECT_THAT(rank.Read(kEmbedding), Each(-6));
      EXPECT_THAT(rank.Read(kBeside), Each(-3));
    });
  }
}

TEST(TiesTest, HomeAndPointerInOneStepAreRefusedByName) {
  for (bool packed : {false, true}) {
    for (bool home_first : {false, true}) {
      RunRanks(3, [&](int, Communicator& group) {
        TiedRank rank(PlainSums(2), packed, group);
        ASSERT_TRUE(rank.ok());
        rank.ZeroHome(kBeside);
        ASSERT_OK(home_first ? rank.AtHome(kBeside, 1)
                             : rank.ByPointer(kBeside, 1));
        EXPECT_THAT(
            home_first ? rank.ByPointer(kBeside, 1) : rank.AtHome(kBeside, 1),
            StatusIs(kPrecondition,
                     AllOf(HasSubstr("'beside'"), HasSubstr("GradData()"))));
        // The next step may choose again.
        EXPECT_FALSE(rank->Step({1}).ok());
        rank.ZeroHome(kBeside);
        for (int micro = 0; micro < 2; ++micro) {
          ASSERT_OK(home_first ? rank.ByPointer(kBeside, 1)
                               : rank.AtHome(kBeside, 1));
          ASSERT_OK(rank.ByPointer(kHead, 0));
          ASSERT_OK(rank.ByPointer(kEmbedding, 0));
        }
        ASSERT_OK(rank->Step({1}));
        EXPECT_THAT(rank.Read(kBeside), Each(-6));
      });
    }
  }
}

TEST(TiesTest, AMissingTiedGradientIsNamedByItsOwnName) {
  for (int stage : {1, 2}) {
    RunRanks(2, [&](int r, Communicator& group) {
      OptimizerOptions options = PlainSums(1);
      options.stage = stage;
      TiedRank rank(options, false, group);
      ASSERT_TRUE(rank.ok());
      ASSERT_OK(rank.ByPointer(kEmbedding, 1));
      ASSERT_OK(rank.ByPointer(kBeside, 1));
      if (r == 0) {
        ASSERT_OK(rank.ByPointer(kHead, 1));
      }
      EXPECT_THAT(
          rank->Step({1}),
          StatusIs(kPrecondition,
                   AllOf(HasSubstr("gradient of 'head' (tied to 'embedding') "
                                   "is missing on rank 1 of 2"))));
    });
  }
}

TEST(TiesTest, OneNameTwiceIsNotTheOthersGradient) {
  for (int stage : {1, 2}) {
    RunRanks(1, [&](int, Communicator& group) {
      OptimizerOptions options = PlainSums(1);
      options.stage = stage;
      TiedRank rank(options, false, group);
      ASSERT_TRUE(rank.ok());
      ASSERT_OK(rank.ByPointer(kEmbedding, 1));
      EXPECT_THAT(
          rank.ByPointer(kEmbedding, 1),
          StatusIs(kPrecondition,
                   HasSubstr("'embedding' has been given already: 1 of 1")));
      ASSERT_OK(rank.ByPointer(kBeside, 1));
      EXPECT_THAT(rank->Step({1}),
                  StatusIs(kPrecondition, HasSubstr("gradient of 'head'")));
    });
  }
}

absl::Status Create(const std::vector<ParamSpec>& specs, int stage = 1) {
  OptimizerOptions options = PlainSums(1);
  options.stage = stage;
  const auto self = MakeSelf();
  return MakeOptimizer(options, specs, *self).status();
}

TEST(TiesTest, TiesThatAreFrozenOnOneSideOnlyAreRefusedNamingBoth) {
  for (int frozen : {kEmbedding, kHead}) {
    std::vector<ParamSpec> specs = TiedModel();
    specs[frozen].frozen = true;
    EXPECT_THAT(Create(specs),
                StatusIs(kInvalid, AllOf(HasSubstr("head"),
                                         HasSubstr("tied_to embedding"),
                                         HasSubstr("frozen"))));
  }
  std::vector<ParamSpec> specs = TiedModel();
  specs[kEmbedding].frozen = specs[kHead].frozen = true;
  EXPECT_OK(Create(specs));
}

TEST(TiesTest, AnExpertTiedToNoneIsRefused) {
  std::vector<ParamSpec> specs = TiedModel();
  specs[kHead].expert = true;
  EXPECT_THAT(MakePlan(specs, PlanOptions()),
              StatusIs(kInvalid, AllOf(HasSubstr("tied_to embedding"),
                                       HasSubstr("expert"))));
}

TEST(TiesTest, OverlappingTensorsInFlatMemoryAreRefusedUnlessTied) {
  std::vector<float> memory(2 * 12 * 8);
  std::vector<ParamSpec> specs = TiedModel();
  specs[kEmbedding].data = memory.data();
  specs[kHead].data = memory.data();
  specs[kBeside].data = memory.data() + 12 * 8;
  for (int stage : {1, 2, 3}) EXPECT_OK(Create(specs, stage));
  specs[kBeside].data = memory.data() + 4;
  for (int stage : {1, 2, 3}) {
    EXPECT_THAT(Create(specs, stage),
                StatusIs(kInvalid, AllOf(HasSubstr("'embedding' and 'beside'"),
                                         HasSubstr("overlap in memory"))));
  }
  specs[kBeside].data = nullptr;  // Flat memory needs none.
  EXPECT_OK(Create(specs));
  specs[kHead].data = memory.data() + 12 * 8;  // Not the same memory yet.
  EXPECT_OK(Create(specs));
  specs[kBeside].data = memory.data() + 12 * 8;
  EXPECT_THAT(Create(specs),
              StatusIs(kInvalid, AllOf(HasSubstr("'beside' and 'head'"),
                                       HasSubstr("overlap in memory"))));
}

}  // namespace
}  // namespace zeromini
