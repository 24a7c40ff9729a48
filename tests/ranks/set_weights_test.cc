// SetParam: whose data become whose weights, and what is refused on all ranks.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

// Four ranks, two slices: ranks 0 and 2 hold one expert, 1 and 3 another.
TrainingCase TwoSlices(int stage, int shard_ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = stage;
  c.options.memory = MemoryForm::kFlat;
  c.options.shard_ranks = shard_ranks;
  c.options.expert_slices = 2;
  c.specs = {Spec("dense", {12, 8}, BlockRule::Rows(), 0),
             Spec("expert", {16, 8}, BlockRule::Rows(), 0)};
  c.specs[1].expert = true;
  c.ranks = 4;
  return c;
}

void OnSlices(const std::function<void(const TrainingCase&, int rank, Replica&,
                                       Optimizer&)>& body) {
  for (int stage : {1, 2, 3}) {
    for (int shards : {1, 2}) {
      const TrainingCase c = TwoSlices(stage, shards);
      SCOPED_TRACE(testing::Message() << "stage " << stage << ", " << shards);
      RunRanks(c.ranks, [&](int rank, Communicator& group) {
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        body(c, rank, replica, *optimizer);
      });
    }
  }
}

TEST(SetWeightsTest, AnExpertIsThatOfItsSlicesFirstRank) {
  OnSlices([](const TrainingCase& c, int rank, Replica& replica,
              Optimizer& optimizer) {
    const std::vector<float> mine(16 * 8, 1 + float(rank));
    ASSERT_OK(optimizer.SetParam(1, rank < 2 ? mine.data() : nullptr));
    ASSERT_OK_AND_ASSIGN(const auto weights,
                         ReadWeights(c, 1, replica, optimizer));
    EXPECT_EQ(weights, std::vector<float>(16 * 8, 1 + float(rank % 2)));
  });
}

TEST(SetWeightsTest, AnExpertWithoutDataOnASlicesFirstRankIsRefusedByAll) {
  OnSlices([](const TrainingCase& c, int rank, Replica& replica,
              Optimizer& optimizer) {
    const std::vector<float> mine(16 * 8, 1 + float(rank));
    ASSERT_OK(optimizer.SetParam(1, mine.data()));
    EXPECT_THAT(
        optimizer.SetParam(1, rank == 1 ? nullptr : mine.data()),
        StatusIs(kInvalid, AllOf(HasSubstr("rank 1: the data of 'expert' is "
                                           "null"),
                                 HasSubstr("expert slice 1"))));
    ASSERT_OK_AND_ASSIGN(const auto weights,
                         ReadWeights(c, 1, replica, optimizer));
    EXPECT_EQ(weights, std::vector<float>(16 * 8, 1 + float(rank % 2)));
  });
}

TEST(SetWeightsTest, ADenseTensorNeedsDataOnRankZeroOnly) {
  OnSlices([](const TrainingCase& c, int rank, Replica& replica,
              Optimizer& optimizer) {
    const std::vector<float> mine(12 * 8, 1 + float(rank));
    ASSERT_OK(optimizer.SetParam(0, rank == 0 ? mine.data() : nullptr));
    ASSERT_OK_AND_ASSIGN(const auto weights,
                         ReadWeights(c, 0, replica, optimizer));
    EXPECT_EQ(weights, std::vector<float>(12 * 8, 1));
    EXPECT_THAT(optimizer.SetParam(0, rank == 0 ? nullptr : mine.data()),
                StatusIs(kInvalid, HasSubstr("rank 0: the data of 'dense'")));
  });
}

// Same bucket, same size: the exchanges alone would not tell them apart.
TEST(SetWeightsTest, RanksThatNameDifferentParametersAreRefused) {
  RunRanks(3, [](int rank, Communicator& group) {
    const std::vector<ParamSpec> specs = {
        Spec("a", {6, 8}, BlockRule::Rows(), 0),
        Spec("b", {6, 8}, BlockRule::Rows(), 0)};
    Replica replica(specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(ExactOptions(), replica.specs(), group));
    const std::vector<float> data(6 * 8, 7.0f);
    EXPECT_THAT(optimizer->SetParam(rank == 2 ? 1 : 0, data.data()),
                StatusIs(kInvalid, HasSubstr("rank 0 names parameter 0, rank 2 "
                                             "parameter 1")));
    EXPECT_THAT(optimizer->ConsolidatedState(rank == 1 ? 1 : 0),
                StatusIs(kInvalid, HasSubstr("rank 0 names parameter 0, rank 1 "
                                             "parameter 1")));
    EXPECT_EQ(replica.Home(0)[0], InitialWeight(0, 0));
    EXPECT_THAT(optimizer->SetParam(rank == 1 ? 9 : 0, data.data()),
                StatusIs(kInvalid, HasSubstr("rank 1: there is no parameter "
                                             "9")));
    ASSERT_OK(optimizer->SetParam(0, data.data()));
    EXPECT_EQ(replica.Home(0)[0], 7.0f);
  });
}

}  // namespace
}  // namespace zeromini
