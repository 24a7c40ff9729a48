// Shard groups times replica groups, and experts that have groups of their own.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

TEST(HybridTest, StateIsSharedInsideAGroupOnly) {
  const std::vector<ParamSpec> specs = {
      Spec("w", {64, 256}, BlockRule::Rows(), 0)};
  RunRanks(4, [&](int, Communicator& group) {
    Replica replica(specs);
    OptimizerOptions options = ExactOptions();
    options.shard_ranks = 2;
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(options, replica.specs(), group));
    EXPECT_EQ(optimizer->Memory().momentum, 64 * 256 * 4 / 2);
    EXPECT_EQ(optimizer->plan().options.ranks, 2);
    EXPECT_EQ(optimizer->plan().options.replicas, 2);
    EXPECT_THAT(optimizer->plan().ToTable(),
                HasSubstr("2 replicas of 2 ranks: rank r of 4 owns the rows of "
                          "rank r % 2"));
  });
}

// Per rank: half of the gradient inside the group, and an all-reduce of the
// shard between the two; weights inside the group only.
TEST(HybridTest, OnlyShardsCrossBetweenGroups) {
  constexpr int64_t kBytes = 64 * 256 * 4;
  TrainingCase c;
  c.specs = {Spec("w", {64, 256}, BlockRule::Rows(), 0)};
  c.options = ExactOptions();
  c.options.shard_ranks = 2;
  c.ranks = 4;
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    ASSERT_OK_AND_ASSIGN(const StepReport report, optimizer->Step({0.01}));
    EXPECT_EQ(report.traffic[int(Purpose::kGradients)].bytes,
              kBytes / 2 + 2 * (kBytes / 2) / 2);
    EXPECT_EQ(report.traffic[int(Purpose::kWeights)].bytes, kBytes / 2);
  });
}

TEST(HybridTest, GroupsThatDoNotFitAreRefusedOnEveryRank) {
  struct Uneven {
    int shard_ranks, expert_slices;
    const char* why;
  };
  for (const Uneven& uneven :
       {Uneven{3, 1, "shard_ranks 3 does not divide the 4 ranks"},
        Uneven{-1, 1, "shard_ranks -1"},
        Uneven{2, 3, "expert_slices 3 does not divide the 4 ranks"},
        Uneven{4, 2, "does not divide the 2 ranks of each of the 2 expert"},
        Uneven{0, 2, "does not divide the 2 ranks of each of the 2 expert"}}) {
    RunRanks(4, [&](int, Communicator& group) {
      const std::vector<ParamSpec> specs = EveryKindOfParam();
      Replica replica(specs);
      OptimizerOptions options = ExactOptions();
      options.shard_ranks = uneven.shard_ranks;
      options.expert_slices = uneven.expert_slices;
      EXPECT_THAT(
          MakeOptimizer(options, replica.specs(), group).status(),
          StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(uneven.why)));
    });
  }
}

TEST(HybridTest, AnExpertNeedsExpertSlices) {
  RunRanks(2, [&](int, Communicator& group) {
    std::vector<ParamSpec> specs = EveryKindOfParam();
    specs[1].expert = true;
    Replica replica(specs);
    EXPECT_THAT(MakeOptimizer(ExactOptions(), replica.specs(), group).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("'layer0.wq' is an expert's")));
  });
}

// One rank that holds the experts of both slices, as tensors of their own: what
// the slices must come to together. The tall expert's block is cut by 2 ranks,
// so that partial sums of both slices travel at once.
TEST(HybridTest, ExpertSlicesGiveTheBitsOfOneRankWithAllExperts) {
  const ParamSpec dense = Spec("dense", {12, 8}, BlockRule::Rows(), 0);
  const auto expert = [](const char* name) {
    return Spec(name, {64, 8}, BlockRule::Whole(), 0);
  };
  TrainingCase one;
  one.options = ExactOptions();
  one.options.max_grad_norm = 0.5;
  one.specs = {dense, expert("expert0"), expert("expert1")};
  const TrainingResult expected = Train(one);
  for (int shards : {1, 2}) {
    for (int stage : {1, 2, 3}) {
      TrainingCase many = one;
      many.ranks = 4;
      many.options.stage = stage;
      many.options.memory = MemoryForm::kFlat;
      many.options.shard_ranks = shards;
      many.options.expert_slices = 2;
      many.specs = {dense, expert("expert")};
      many.specs[1].expert = true;
      // Rank r holds slice r % 2, of which it is the r / 2nd.
      many.edit = [](int p, int step, int rank, std::vector<float>* gradient) {
        if (p == 0) return true;
        for (size_t i = 0; i < gradient->size(); ++i) {
          (*gradient)[i] =
              GradientPart(1 + rank % 2, int64_t(i), step, rank / 2, 2);
        }
        return true;
      };
      RunRanks(many.ranks, [&](int rank, Communicator& group) {
        SCOPED_TRACE(testing::Message() << "rank " << rank << ", shards "
                                        << shards << ", stage " << stage);
        Replica replica(many.specs);
        ASSERT_OK_AND_ASSIGN(
            auto optimizer,
            MakeOptimizer(many.options, replica.specs(), group));
        for (int p : {0, 1}) {
          std::vector<float> weights(Elements(many.specs[p]));
          for (size_t i = 0; i < weights.size(); ++i) {
            weights[i] = InitialWeight(p == 0 ? 0 : 1 + rank % 2, int64_t(i));
          }
          ASSERT_OK(optimizer->SetParam(p, weights.data()));
        }
        for (int step = 1; step <= many.steps; ++step) {
          ASSERT_OK(GiveGradients(many, *optimizer, step, rank));
          ASSERT_OK_AND_ASSIGN(const StepReport report,
                               optimizer->Step({many.learning_rate}));
          EXPECT_EQ(report.grad_norm, expected.norms[step - 1]);
        }
        for (int p : {0, 1}) {
          const int all = p == 0 ? 0 : 1 + rank % 2;
          ASSERT_OK_AND_ASSIGN(const std::vector<float> weights,
                               ReadWeights(many, p, replica, *optimizer));
          EXPECT_EQ(weights, expected.weights[all]);
          ASSERT_OK_AND_ASSIGN(const Optimizer::ParamState state,
                               optimizer->ConsolidatedState(p));
          EXPECT_EQ(state.momentum, expected.states[all].momentum);
          EXPECT_EQ(state.second_moment, expected.states[all].second_moment);
        }
      });
    }
  }
}

// Ranks 2 and 3 break their group at once; 0 and 1 wait for them in others, and
// would until the deadline.
TEST(HybridTest, ABrokenGroupBreaksTheOthersBeforeTheirDeadline) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.shard_ranks = 2;
  c.options.stage = 3;
  c.options.memory = MemoryForm::kFlat;
  c.specs = {Spec("w", {16, 8}, BlockRule::Rows(), 0)};
  c.ranks = 4;
  c.group.timeout = absl::Seconds(80);
  const absl::Time begin = absl::Now();
  RunRanks(
      c.ranks,
      [&](int rank, Communicator& group) {
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        const std::vector<float> gradient(16 * 8, 0.5f);
        absl::Status status;
        if (rank == 2) {
          status.Update(optimizer->Gather(0));
          status.Update(optimizer->WaitParam(0));
        }
        status.Update(optimizer->GradReady(0, gradient.data()));
        status.Update(optimizer->Step({0.01}).status());
        EXPECT_FALSE(status.ok()) << rank;
        if (rank < 2) return;  // They learn it from one or the other.
        EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                     HasSubstr("rank 0 calls all-gather")));
      },
      c.group);
  EXPECT_LT(absl::Now() - begin, absl::Seconds(40));
}

TEST(HybridTest, ALostRankIsAnErrorInEveryGroup) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.shard_ranks = 2;
  c.options.stage = 2;
  c.ranks = 4;
  c.group.timeout = absl::Seconds(1);
  RunRanks(
      c.ranks,
      [&](int rank, Communicator& group) {
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        if (rank == 3) return;  // Gives nothing and never steps.
        GiveGradients(c, *optimizer, 1, rank).IgnoreError();
        EXPECT_FALSE(optimizer->Step({0.01}).ok()) << rank;
        EXPECT_FALSE(optimizer->Step({0.01}).ok()) << rank;
      },
      c.group);
}

}  // namespace
}  // namespace zeromini
