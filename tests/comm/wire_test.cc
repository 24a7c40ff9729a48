// Wire formats, plans and level counts on ranks that are threads.

#include <vector>

#include "comm/queued_communicator.h"
#include "comm/threads/thread_endpoint.h"
#include "tests/comm/conformance.h"
#include "tests/support/delayed_stream.h"
#include "tests/support/run_ranks.h"
#include "tests/support/status_matchers.h"

namespace zeromini {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

void OnEachRank(int size, void (*check)(Communicator&),
                const GroupOptions& options = TestGroupOptions()) {
  RunRanks(
      size, [check](int, Communicator& group) { check(group); }, options);
}

class ThreadWireTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ThreadWireTest, testing::Values(1, 2, 3, 5, 8),
                         testing::PrintToStringParamName());

TEST_P(ThreadWireTest, ABFloat16SumRoundsAllContributionsButTheOwners) {
  OnEachRank(GetParam(),
             conformance::ABFloat16SumRoundsAllContributionsButTheOwners);
}
TEST_P(ThreadWireTest, ABFloat16SumStaysWithinItsBoundAndReachesIt) {
  OnEachRank(GetParam(),
             conformance::ABFloat16SumStaysWithinItsBoundAndReachesIt);
}
TEST_P(ThreadWireTest, ABFloat16GatherRoundsEverySegment) {
  OnEachRank(GetParam(), conformance::ABFloat16GatherRoundsEverySegment);
}

TEST_P(ThreadWireTest, LateStreamsChangeNoBit) {
  GroupOptions options = TestGroupOptions();
  options.make_stream =
      DelayedStream::Factory(43, std::chrono::microseconds(3000));
  OnEachRank(GetParam(),
             conformance::ABFloat16SumRoundsAllContributionsButTheOwners,
             options);
  OnEachRank(GetParam(), conformance::ABFloat16GatherRoundsEverySegment,
             options);
}

TEST_P(ThreadWireTest, DifferentWireFormatsAreNamedOnEveryRank) {
  if (GetParam() == 1) return;
  OnEachRank(GetParam(), conformance::DifferentWireFormatsAreNamedOnEveryRank);
}
TEST_P(ThreadWireTest, DifferentPlansAreNamedOnEveryRank) {
  if (GetParam() == 1) return;
  OnEachRank(GetParam(), conformance::DifferentPlansAreNamedOnEveryRank);
}

TEST_P(ThreadWireTest, ALevelCountsWhatItsExchangesSendToTheByte) {
  const int size = GetParam();
  RunRanks(size, [size](int rank, Communicator& group) {
    const int64_t peers = size - 1;
    std::vector<float> data(40 * size);
    std::vector<float> own(40);
    const auto rounded = [](Purpose purpose) {
      return Exchange{purpose, 0, 0, DType::kBFloat16};
    };
    EXPECT_OK(group.ReduceScatter(data.data(), own.data(), 40, DType::kFloat32,
                                  rounded(Purpose::kGradients)));
    EXPECT_OK(group.AllGather(own.data(), data.data(), 40, DType::kFloat32,
                              {Purpose::kWeights}));
    EXPECT_OK(group.AllGather(own.data(), data.data(), 40, DType::kFloat32,
                              rounded(Purpose::kWeights)));
    // The last segment is short unless there is one rank only.
    const int64_t count = 7 * size - 1;
    EXPECT_OK(group.AllReduce(data.data(), count, DType::kFloat32,
                              ReduceOp::kSum, {Purpose::kScalars}));
    EXPECT_OK(group.Broadcast(data.data(), 13, 0, {Purpose::kState}));
    EXPECT_OK(conformance::Drain(group));

    const LevelTraffic sent = group.level_traffic();
    const auto inside = [&](Purpose purpose) {
      return sent[static_cast<int>(purpose)].inside_host;
    };
    EXPECT_EQ(inside(Purpose::kGradients), peers * 40 * 2);
    EXPECT_EQ(inside(Purpose::kWeights), peers * 40 * (4 + 2));
    const int64_t segment = rank == size - 1 ? 6 : 7;
    EXPECT_EQ(inside(Purpose::kScalars),
              (count - segment + peers * segment) * 4);
    EXPECT_EQ(inside(Purpose::kState), rank == 0 ? peers * 13 : 0);
    for (const LevelBytes& level : sent) EXPECT_EQ(level.between_hosts, 0);
  });
}

TEST(ThreadWireErrorsTest, ARefusedWireFormatFreesThePeers) {
  RunRanks(3, [](int rank, Communicator& group) {
    float value = 0;
    Exchange exchange{Purpose::kScalars};
    if (rank == 2) exchange.wire = DType::kBFloat16;
    absl::Status status =
        group.AllReduce(&value, 1, DType::kFloat32, ReduceOp::kSum, exchange);
    if (rank == 2) {
      EXPECT_FALSE(status.ok());
    }
    status.Update(conformance::Drain(group));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                 AllOf(HasSubstr("rank 2, all-reduce"),
                                       HasSubstr("can travel as bf16"))));
  });
}

// Rank 1 counts from nothing again, as one that lost an exchange would.
TEST(ThreadWireErrorsTest, ARankAtAnotherExchangeIsNamedOnEveryRank) {
  auto rendezvous = std::make_shared<Rendezvous>(2, absl::Seconds(30));
  Group group;
  Group again;
  for (int rank = 0; rank < 2; ++rank) {
    auto endpoint = std::make_shared<ThreadEndpoint>(rank, rendezvous);
    group.push_back(MakeQueuedCommunicator(endpoint, nullptr));
    again.push_back(MakeQueuedCommunicator(endpoint, nullptr));
  }
  RunOn(group, [&again](int rank, Communicator& first) {
    float value = 1;
    const Exchange exchange{Purpose::kScalars};
    EXPECT_OK(
        first.AllReduce(&value, 1, DType::kFloat32, ReduceOp::kSum, exchange));
    Communicator& next = rank == 1 ? *again[1] : first;
    EXPECT_THAT(
        next.AllReduce(&value, 1, DType::kFloat32, ReduceOp::kSum, exchange),
        StatusIs(absl::StatusCode::kInvalidArgument,
                 HasSubstr("rank 0 is at exchange 1, rank 1 at exchange 0, in "
                           "all-reduce of scalars, 1 x fp32, sum")));
  });
}

TEST(SelfWireTest, RoundsWhatItGathersAndNotWhatItSums) {
  auto self = Self();
  conformance::ABFloat16SumRoundsAllContributionsButTheOwners(*self);
  conformance::ABFloat16GatherRoundsEverySegment(*self);
}

}  // namespace
}  // namespace zeromini
