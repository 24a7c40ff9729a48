// ZeRO stage 3: weights are there when they are gathered, and not otherwise.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

constexpr int64_t kLayerBytes = 16 * 32 * 4;

// Four layers of one matrix each, and one tensor outside of them.
TrainingCase FourLayers(int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = 3;
  c.options.memory = MemoryForm::kFlat;
  c.ranks = ranks;
  c.specs = {Spec("embedding", {24, 32}, BlockRule::Rows(), -1)};
  for (int layer = 0; layer < 4; ++layer) {
    c.specs.push_back(
        Spec("w" + std::to_string(layer), {16, 32}, BlockRule::Rows(), layer));
  }
  return c;
}

// Runs `body` on each rank of an optimizer that has its weights.
void OnOptimizers(const TrainingCase& c,
                  const std::function<void(Optimizer&, Replica&)>& body) {
  RunRanks(c.ranks, [&](int, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(FillWeights(c, replica, *optimizer));
    body(*optimizer, replica);
  });
}

TEST(ShardedWeightsTest, AreWholeFromGatherToRelease) {
  const TrainingCase c = FourLayers(3);
  OnOptimizers(c, [&](Optimizer& optimizer, Replica& replica) {
    EXPECT_EQ(optimizer.ParamData(2), nullptr);
    ASSERT_OK(optimizer.Gather(1));
    ASSERT_OK(optimizer.WaitParam(2));
    EXPECT_EQ(FromBytes(optimizer.ParamData(2), 16 * 32, DType::kFloat32),
              FromBytes(replica.Data(2), 16 * 32, DType::kFloat32));
    EXPECT_EQ(optimizer.ParamData(3), nullptr);
    ASSERT_OK(optimizer.Release(1));
    EXPECT_EQ(optimizer.ParamData(2), nullptr);
    EXPECT_THAT(optimizer.WaitParam(2),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("'w1' is not gathered")));
    // Neither is an error.
    ASSERT_OK(optimizer.Release(1));
    ASSERT_OK(optimizer.Gather(2));
    ASSERT_OK(optimizer.Gather(2));
  });
}

TEST(ShardedWeightsTest, AreRankZerosAfterSetParam) {
  TrainingCase c = FourLayers(3);
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    const std::vector<float> mine(16 * 32, 1 + float(rank));
    ASSERT_OK(optimizer->SetParam(1, rank == 2 ? nullptr : mine.data()));
    ASSERT_OK(optimizer->Gather(0));
    ASSERT_OK(optimizer->WaitParam(1));
    EXPECT_EQ(FromBytes(optimizer->ParamData(1), 16 * 32, DType::kFloat32),
              std::vector<float>(16 * 32, 1));
    EXPECT_THAT(optimizer->SetParam(1, nullptr),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("rank 0: the data of 'w0' is null")));
  });
}

TEST(ShardedWeightsTest, OfTheNextLayersAreFetchedInTheDirectionOfThePass) {
  TrainingCase c = FourLayers(2);
  c.options.prefetch = 2;
  OnOptimizers(c, [&](Optimizer& optimizer, Replica&) {
    const auto there = [&] {
      std::vector<int> layers;
      for (int layer = 0; layer < 4; ++layer) {
        if (optimizer.ParamData(1 + layer) != nullptr) layers.push_back(layer);
      }
      return layers;
    };
    ASSERT_OK(optimizer.Gather(0, GatherPass::kForward));
    EXPECT_THAT(there(), testing::ElementsAre(0, 1, 2));
    ASSERT_OK(optimizer.Release(0));
    ASSERT_OK(optimizer.Release(1));
    ASSERT_OK(optimizer.Release(2));
    ASSERT_OK(optimizer.Gather(3, GatherPass::kBackward));
    EXPECT_THAT(there(), testing::ElementsAre(1, 2, 3));
    // What lies outside of the layers is no layer's next.
    ASSERT_OK(optimizer.Gather(kNoLayerSet, GatherPass::kForward));
    EXPECT_THAT(there(), testing::ElementsAre(1, 2, 3));
    EXPECT_NE(optimizer.ParamData(0), nullptr);
    ASSERT_OK(optimizer.Release(kNoLayerSet));
    ASSERT_OK(optimizer.Gather(1, GatherPass::kBackward));
    EXPECT_THAT(there(), testing::ElementsAre(0, 1, 2, 3));
    EXPECT_EQ(optimizer.ParamData(0), nullptr);
  });
}

TEST(ShardedWeightsTest, StayWithinTheBudget) {
  TrainingCase c = FourLayers(2);
  c.options.prefetch = 3;
  c.options.gather_budget_bytes = 2 * kLayerBytes + kLayerBytes / 2;
  OnOptimizers(c, [&](Optimizer& optimizer, Replica&) {
    // What is kept of this must make room for layers of another size.
    ASSERT_OK(optimizer.Gather(kNoLayerSet));
    ASSERT_OK(optimizer.Release(kNoLayerSet));
    for (int layer = 0; layer < 4; ++layer) {
      ASSERT_OK(optimizer.Gather(layer, GatherPass::kForward));
      ASSERT_OK(optimizer.WaitParam(1 + layer));
      EXPECT_LE(optimizer.Memory().gathered, c.options.gather_budget_bytes);
      ASSERT_OK(optimizer.Release(layer));
    }
    ASSERT_OK(optimizer.Gather(0));
    ASSERT_OK(optimizer.Gather(1));
    // On every rank, and nothing is lost by it.
    EXPECT_THAT(optimizer.Gather(2),
                StatusIs(absl::StatusCode::kResourceExhausted,
                         HasSubstr("gather_budget_bytes, 5120")));
    ASSERT_OK(optimizer.Release(0));
    ASSERT_OK(optimizer.Gather(2));
    EXPECT_LE(optimizer.Memory().gathered, c.options.gather_budget_bytes);
  });
}

TEST(ShardedWeightsTest, ATightBudgetChangesNoBit) {
  TrainingCase ample = FourLayers(2);
  TrainingCase tight = ample;
  // A layer, and what is outside of the layers: no room to prefetch.
  tight.options.gather_budget_bytes = kLayerBytes + 24 * 32 * 4;
  ExpectSameTraining(ample, Train(tight), Train(ample));
}

TEST(ShardedWeightsTest, AreLetGoByAStep) {
  TrainingCase c = FourLayers(2);
  OnOptimizers(c, [&](Optimizer& optimizer, Replica&) {
    ASSERT_OK(optimizer.Gather(kNoLayerSet));
    for (size_t p = 0; p < c.specs.size(); ++p) {
      const std::vector<float> gradient(Elements(c.specs[p]), 0.5f);
      ASSERT_OK(optimizer.GradReady(int(p), gradient.data()));
    }
    ASSERT_OK(optimizer.Step({0.01}));
    EXPECT_EQ(optimizer.ParamData(0), nullptr);
  });
}

// Kept, it would hide what SetParam() has brought from the next Gather().
TEST(ShardedWeightsTest, AreLetGoByAStepThatIsRefusedToo) {
  const TrainingCase c = FourLayers(2);
  OnOptimizers(c, [&](Optimizer& optimizer, Replica&) {
    const std::vector<float> ones(Elements(c.specs[0]), 1);
    ASSERT_OK(optimizer.Gather(kNoLayerSet));
    ASSERT_OK(optimizer.SetParam(0, ones.data()));
    EXPECT_THAT(optimizer.Step({0.01}),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("gradient of 'embedding' is missing")));
    EXPECT_EQ(optimizer.ParamData(0), nullptr);
    ASSERT_OK(optimizer.Gather(kNoLayerSet));
    ASSERT_OK(optimizer.WaitParam(0));
    EXPECT_EQ(FromBytes(optimizer.ParamData(0), Elements(c.specs[0]),
                        DType::kFloat32),
              ones);
  });
}

TEST(ShardedWeightsTest, SendEachGatherOnceAndNothingInAStep) {
  TrainingCase c = FourLayers(2);
  OnOptimizers(c, [&](Optimizer& optimizer, Replica&) {
    for (size_t p = 0; p < c.specs.size(); ++p) {
      const std::vector<float> gradient(Elements(c.specs[p]), 0.5f);
      ASSERT_OK(optimizer.GradReady(int(p), gradient.data()));
    }
    ASSERT_OK_AND_ASSIGN(const StepReport first, optimizer.Step({0.01}));
    EXPECT_EQ(first.traffic[int(Purpose::kWeights)].bytes, 0);
    ASSERT_OK(optimizer.Gather(1));
    ASSERT_OK(optimizer.WaitParam(2));
    const Traffic after = optimizer.traffic();
    ASSERT_OK(optimizer.Gather(1));
    EXPECT_EQ(optimizer.traffic()[int(Purpose::kWeights)].bytes,
              after[int(Purpose::kWeights)].bytes);
  });
}

TEST(ShardedWeightsTest, TravelAsBf16IfToldAndStayFp32AtRest) {
  TrainingCase fp32 = FourLayers(2);
  TrainingCase bf16 = fp32;
  bf16.options.weight_wire = DType::kBFloat16;
  const TrainingResult exact = Train(fp32);
  const TrainingResult rounded = Train(bf16);
  for (size_t p = 0; p < exact.weights.size(); ++p) {
    for (size_t i = 0; i < exact.weights[p].size(); ++i) {
      EXPECT_EQ(rounded.weights[p][i],
                FromBFloat16(ToBFloat16(exact.weights[p][i])));
    }
  }
}

TEST(ShardedWeightsTest, AreNothingToGatherBelowStageThree) {
  TrainingCase c = FourLayers(2);
  c.options.stage = 2;
  OnOptimizers(c, [&](Optimizer& optimizer, Replica&) {
    EXPECT_THAT(optimizer.Gather(0),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         HasSubstr("whole on every rank at stage 2")));
  });
}

TEST(ShardedWeightsTest, ThatAreTiedAreNamedWithTheGroupThatBringsThem) {
  TrainingCase c = FourLayers(2);
  c.specs.push_back(Spec("head", {24, 32}, BlockRule::Rows(), 7));
  c.specs.back().tied_to = "embedding";
  OnOptimizers(c, [&](Optimizer& optimizer, Replica&) {
    EXPECT_THAT(
        optimizer.WaitParam(5),
        StatusIs(absl::StatusCode::kFailedPrecondition,
                 HasSubstr("'head' is not gathered (layer set -2, that of "
                           "'embedding', which it is tied to)")));
    EXPECT_THAT(optimizer.Gather(7),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("no parameter is in layer set 7 that is "
                                   "gathered: frozen ones are whole, and tied "
                                   "ones come with what they are tied to")));
    ASSERT_OK(optimizer.Gather(kNoLayerSet));
    ASSERT_OK(optimizer.WaitParam(5));
  });
}

TEST(ShardedWeightsTest, OfAnUnknownGroupAreRefused) {
  OnOptimizers(FourLayers(2), [&](Optimizer& optimizer, Replica&) {
    EXPECT_THAT(optimizer.Gather(9),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("no parameter is in layer set 9")));
    ASSERT_OK(optimizer.Gather(0));  // The group is not broken.
  });
}

// A rank that gathers where others give a gradient.
TEST(ShardedWeightsTest, RanksInDifferentOrderGetAnErrorAndDoNotHang) {
  TrainingCase c = FourLayers(2);
  c.specs.resize(2);
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    const std::vector<float> gradient(24 * 32, 0.5f);
    absl::Status status;
    for (int turn = 0; turn < 2; ++turn) {
      if (turn == rank) {
        status.Update(optimizer->Gather(0));
      } else {
        status.Update(optimizer->GradReady(1, gradient.data()));
      }
    }
    status.Update(optimizer->Step({0.01}).status());
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr("rank 0 calls all-gather")));
  });
}

// kSkip does not help: with gathers in between, the exchanges of ranks with
// and without the gradient leave in different orders.
TEST(ShardedWeightsTest, AGradientAbsentOnOneRankIsNamedBetweenGathers) {
  TrainingCase c = FourLayers(3);
  c.options.absent_gradients = AbsentGradients::kSkip;
  c.options.prefetch = 0;
  for (bool last : {false, true}) {
    RunRanks(c.ranks, [&](int rank, Communicator& group) {
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeOptimizer(c.options, replica.specs(), group));
      const std::vector<float> gradient(24 * 32, 0.5f);
      absl::Status status;
      for (int layer = 3; layer >= 0; --layer) {
        status.Update(optimizer->Gather(layer, GatherPass::kBackward));
        status.Update(optimizer->WaitParam(1 + layer));
        if (rank == 1 && layer == (last ? 0 : 2)) continue;
        status.Update(optimizer->GradReady(1 + layer, gradient.data()));
      }
      status.Update(optimizer->GradReady(0, gradient.data()));
      status.Update(optimizer->Step({0.01}).status());
      if (last) {  // Nothing is gathered after it.
        EXPECT_OK(status);
        return;
      }
      const char* own = rank == 1 ? "on rank 1 a gradient had not come of 'w2' "
                                    "(layer set 2)"
                                  : "all gradients had come of the bucket with "
                                    "'w2' (layer set 2)";
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                   testing::AllOf(HasSubstr("one order"),
                                                  HasSubstr(own))));
      EXPECT_THAT(optimizer->Step({0.01}),
                  StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(own)));
    });
  }
}

}  // namespace
}  // namespace zeromini
