#include <atomic>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "tests/comm/conformance.h"
#include "tests/support/delayed_stream.h"
#include "tests/support/no_more_threads.h"
#include "tests/support/run_ranks.h"
#include "tests/support/status_matchers.h"
#include "tests/support/suspended.h"

namespace zeromini {
namespace {

using ::testing::HasSubstr;

GroupOptions Impatient() {
  GroupOptions options;
  options.timeout = absl::Milliseconds(150);
  return options;
}

void OnEachRank(int size, void (*check)(Communicator&),
                const GroupOptions& options = TestGroupOptions()) {
  RunRanks(
      size, [check](int, Communicator& group) { check(group); }, options);
}

class ThreadGroupTest : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(Ranks, ThreadGroupTest, testing::Values(1, 2, 3, 5, 8),
                         testing::PrintToStringParamName());

TEST_P(ThreadGroupTest, ReduceScatterSumsInRankOrder) {
  OnEachRank(GetParam(), conformance::ReduceScatterSumsInRankOrder);
}
TEST_P(ThreadGroupTest, ReduceScatterInPlaceLeavesOtherSegmentsAlone) {
  OnEachRank(GetParam(),
             conformance::ReduceScatterInPlaceLeavesOtherSegmentsAlone);
}
TEST_P(ThreadGroupTest, AllGatherPutsEverySegmentInPlace) {
  OnEachRank(GetParam(), conformance::AllGatherPutsEverySegmentInPlace);
}
TEST_P(ThreadGroupTest, AllReduceFoldsInRankOrder) {
  OnEachRank(GetParam(), conformance::AllReduceFoldsInRankOrder);
}
TEST_P(ThreadGroupTest, BroadcastReachesAllFromAnyRoot) {
  OnEachRank(GetParam(), conformance::BroadcastReachesAllFromAnyRoot);
}
TEST_P(ThreadGroupTest, ManyExchangesKeepTheirOrder) {
  OnEachRank(GetParam(), conformance::ManyExchangesKeepTheirOrder);
}
TEST_P(ThreadGroupTest, SplitGroupsByColorAndOrdersByKey) {
  OnEachRank(GetParam(), conformance::SplitGroupsByColorAndOrdersByKey);
}
TEST_P(ThreadGroupTest, EmptyExchangesTouchNothing) {
  OnEachRank(GetParam(), conformance::EmptyExchangesTouchNothing);
}
TEST_P(ThreadGroupTest, AllToAllBringsEverySegmentToItsRank) {
  OnEachRank(GetParam(), conformance::AllToAllBringsEverySegmentToItsRank);
}
TEST_P(ThreadGroupTest, AllToAllWorksInAGroupThatWasSplitOff) {
  OnEachRank(GetParam(), conformance::AllToAllWorksInAGroupThatWasSplitOff);
}
TEST_P(ThreadGroupTest, CountsThatDoNotMatchAreNamedOnEveryRank) {
  OnEachRank(GetParam(), conformance::CountsThatDoNotMatchAreNamedOnEveryRank);
}
TEST_P(ThreadGroupTest, AllToAllReportsWhyTheGroupWasAborted) {
  OnEachRank(GetParam(), conformance::AllToAllReportsWhyTheGroupWasAborted);
}
TEST_P(ThreadGroupTest, FinishWaitsForThisRankAlone) {
  OnEachRank(GetParam(), conformance::FinishWaitsForThisRankAlone);
}

TEST_P(ThreadGroupTest, NumbersThatNoEnumHasAreRefused) {
  OnEachRank(GetParam(), conformance::AnUnknownDTypeIsRefused);
  OnEachRank(GetParam(), conformance::AnUnknownReduceOperationIsRefused);
  OnEachRank(GetParam(), conformance::AnUnknownPurposeIsRefused);
}

TEST_P(ThreadGroupTest, LateStreamsChangeNoBit) {
  GroupOptions options = TestGroupOptions();
  options.make_stream =
      DelayedStream::Factory(41, std::chrono::microseconds(3000));
  OnEachRank(GetParam(), conformance::ReduceScatterSumsInRankOrder, options);
  OnEachRank(GetParam(), conformance::ManyExchangesKeepTheirOrder, options);
  OnEachRank(GetParam(), conformance::AllToAllWorksInAGroupThatWasSplitOff,
             options);
  OnEachRank(GetParam(), conformance::SplitGroupsByColorAndOrdersByKey,
             options);
}

TEST_P(ThreadGroupTest, DifferentCallsAreNamedOnEveryRank) {
  if (GetParam() == 1) return;
  OnEachRank(GetParam(), conformance::DifferentCallsAreNamedOnEveryRank);
}
TEST_P(ThreadGroupTest, AnAbsentRankIsNamedByAllOthers) {
  if (GetParam() == 1) return;
  OnEachRank(GetParam(), conformance::AnAbsentRankIsNamedByAllOthers,
             Impatient());
}
TEST_P(ThreadGroupTest, ARankThatIsAbsentFromAnAllToAllIsNamed) {
  if (GetParam() == 1) return;
  OnEachRank(GetParam(), conformance::ARankThatIsAbsentFromAnAllToAllIsNamed,
             Impatient());
}
TEST_P(ThreadGroupTest, AnAbortEndsTheWaitOfItsRank) {
  if (GetParam() == 1) return;
  OnEachRank(GetParam(), conformance::AnAbortEndsTheWaitOfItsRank);
}

TEST_P(ThreadGroupTest, AnAbortEndsTheWaitsOfAllRanks) {
  RunRanks(GetParam() + 1, [](int rank, Communicator& group) {
    if (rank == 0) {
      group.Abort(absl::CancelledError("enough"));
      return;
    }
    EXPECT_THAT(group.Barrier(),
                StatusIs(absl::StatusCode::kCancelled, "enough"));
  });
}

TEST(ThreadGroupErrorsTest, RefusesAGroupWithoutRanks) {
  EXPECT_THAT(ThreadGroup(0),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("got 0")));
}

TEST(ThreadGroupErrorsTest, NoRankIsLateWhileTheProcessIsSuspended) {
  GroupOptions options;
  options.timeout = absl::Seconds(1);
  ASSERT_OK_AND_ASSIGN(auto group, ThreadGroup(2, options));
  absl::Status status;
  std::thread first([&] { status = group[0]->Barrier(); });
  SuspendThisProcessFor(std::chrono::milliseconds(1500));
  EXPECT_OK(group[1]->Barrier());
  first.join();
  EXPECT_OK(status);
}

TEST(ThreadGroupErrorsTest, FinishEndsAtItsDeadlineAndLeavesTheExchange) {
  ASSERT_OK_AND_ASSIGN(auto group, ThreadGroup(2, TestGroupOptions()));
  int64_t sums[2] = {1, 2};
  const auto sum = [&](int rank) {
    return group[rank]->AllReduce(&sums[rank], 1, DType::kInt64, ReduceOp::kSum,
                                  {});
  };
  EXPECT_OK(sum(0));
  EXPECT_THAT(group[0]->Finish(absl::Now() + absl::Milliseconds(20)),
              StatusIs(absl::StatusCode::kDeadlineExceeded));
  EXPECT_OK(sum(1));
  EXPECT_OK(group[0]->Finish(absl::InfiniteFuture()));
  EXPECT_EQ(sums[0], 3);
}

TEST(ThreadGroupErrorsTest, FinishReportsTheFirstErrorOfTheStream) {
  ASSERT_OK_AND_ASSIGN(auto group, ThreadGroup(1, TestGroupOptions()));
  HostStream::From(group[0]->stream())->Enqueue([] {
    return absl::DataLossError("a kernel failed");
  });
  EXPECT_THAT(group[0]->Finish(absl::InfiniteFuture()),
              StatusIs(absl::StatusCode::kDataLoss, "a kernel failed"));
}

TEST(ThreadGroupErrorsTest, WithoutThreadsThereIsNoGroup) {
  NoMoreThreads none;
  EXPECT_THAT(ThreadGroup(3),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       HasSubstr("no thread can be made for the stream "
                                 "'zm-comm-0'")));
}

TEST(ThreadGroupErrorsTest, ABadArgumentIsReportedAtOnceAndFreesThePeers) {
  RunRanks(3, [](int rank, Communicator& group) {
    float value = 0;
    const int64_t count = rank == 2 ? -4 : 1;
    absl::Status status =
        group.AllReduce(&value, count, DType::kFloat32, ReduceOp::kSum, {});
    if (rank == 2) {
      EXPECT_FALSE(status.ok());
    }
    status.Update(conformance::Drain(group));
    EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument,
                                 HasSubstr("negative count")));
  });
}

TEST(ThreadGroupErrorsTest, RefusesARootOutsideTheGroupAndNullBuffers) {
  RunRanks(1, [](int, Communicator& group) {
    char byte = 0;
    EXPECT_THAT(group.Broadcast(&byte, 1, 1, {}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("the group has 1 ranks")));
  });
  RunRanks(1, [](int, Communicator& group) {
    EXPECT_THAT(
        group.Broadcast(nullptr, 1, 0, {}),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("null buffer")));
  });
}

TEST(ThreadGroupErrorsTest,
     AFailedStreamFreesThePeersInsteadOfLettingThemWait) {
  RunRanks(3, [](int rank, Communicator& group) {
    if (rank == 1) {
      HostStream::From(group.stream())
          ->Poison(absl::DataLossError("a kernel failed"));
    }
    absl::Status status = group.Barrier();
    if (rank == 1) {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kDataLoss));
    } else {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kAborted,
                                   HasSubstr("stream of rank 1")));
    }
  });
}

TEST(ThreadGroupErrorsTest, DestroyingARankWithPendingExchangesFreesThePeers) {
  ASSERT_OK_AND_ASSIGN(auto group, ThreadGroup(2, TestGroupOptions()));
  std::vector<float> data(2);
  EXPECT_OK(
      group[0]->AllReduce(data.data(), 2, DType::kFloat32, ReduceOp::kSum, {}));
  group[0].reset();
  EXPECT_THAT(group[1]->Barrier(), StatusIs(absl::StatusCode::kCancelled,
                                            HasSubstr("rank 0 destroyed")));
}

TEST(ThreadGroupErrorsTest, BreakingASplitGroupBreaksItsParent) {
  RunRanks(4, [](int rank, Communicator& group) {
    ASSERT_OK_AND_ASSIGN(auto pair, group.Split(rank / 2, 0));
    if (rank == 3) pair->Abort(absl::CancelledError("pair 1 is gone"));
    EXPECT_THAT(group.Barrier(),
                StatusIs(absl::StatusCode::kCancelled, "pair 1 is gone"));
  });
}

TEST(ThreadGroupErrorsTest, AClosedGroupRefusesFurtherCalls) {
  RunRanks(2, [](int, Communicator& group) {
    EXPECT_OK(group.Close());
    EXPECT_THAT(group.Barrier(),
                StatusIs(absl::StatusCode::kFailedPrecondition));
  });
}

TEST(SelfTest, CopiesOnTheCallersThread) {
  auto self = Self();
  EXPECT_FALSE(self->overlaps());
  conformance::ReduceScatterSumsInRankOrder(*self);
  conformance::AllGatherPutsEverySegmentInPlace(*self);
  conformance::AllReduceFoldsInRankOrder(*self);
  conformance::BroadcastReachesAllFromAnyRoot(*self);
  conformance::SplitGroupsByColorAndOrdersByKey(*self);
  conformance::EmptyExchangesTouchNothing(*self);
  conformance::FinishWaitsForThisRankAlone(*self);
  conformance::AllToAllBringsEverySegmentToItsRank(*self);
  conformance::AllToAllWorksInAGroupThatWasSplitOff(*self);
}

TEST(SelfTest, AnAllToAllThatCannotBeIsRefused) {
  conformance::CountsThatDoNotMatchAreNamedOnEveryRank(*Self());
  conformance::AllToAllReportsWhyTheGroupWasAborted(*Self());
}

TEST(SelfTest, RefusesNumbersThatNoEnumHas) {
  conformance::AnUnknownDTypeIsRefused(*Self());
  conformance::AnUnknownReduceOperationIsRefused(*Self());
  conformance::AnUnknownPurposeIsRefused(*Self());
}

}  // namespace
}  // namespace zeromini
