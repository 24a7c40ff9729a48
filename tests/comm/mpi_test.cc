#include "zeromini/mpi.h"

#include <fcntl.h>

#include <atomic>
#include <cerrno>
#include <memory>
#include <string>
#include <vector>

#include "comm/mpi/mpi_setup.h"
#include "comm/mpi/mpi_watch.h"
#include "tests/comm/conformance.h"
#include "tests/support/delayed_stream.h"
#include "tests/support/mpi_session.h"
#include "tests/support/status_matchers.h"

namespace {

// How often posix_fallocate() fails, and with what; it is the program's own.
std::atomic<int> failures = 0;
std::atomic<int> failure = 0;

}  // namespace

extern "C" int posix_fallocate(int file, off_t offset, off_t bytes) {
  if (failures > 0) {
    --failures;
    return failure;
  }
  return fallocate(file, 0, offset, bytes) == 0 ? 0 : errno;
}

namespace zeromini {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

void OnTheWorld(void (*check)(Communicator&),
                absl::Duration timeout = absl::Seconds(30)) {
  GroupOptions options;
  options.timeout = timeout;
  ASSERT_OK_AND_ASSIGN(auto group, TestSession().World(options));
  check(*group);
}

TEST(MpiTest, ReduceScatterSumsInRankOrder) {
  OnTheWorld(conformance::ReduceScatterSumsInRankOrder);
}
TEST(MpiTest, ReduceScatterInPlaceLeavesOtherSegmentsAlone) {
  OnTheWorld(conformance::ReduceScatterInPlaceLeavesOtherSegmentsAlone);
}
TEST(MpiTest, AllGatherPutsEverySegmentInPlace) {
  OnTheWorld(conformance::AllGatherPutsEverySegmentInPlace);
}
TEST(MpiTest, AllReduceFoldsInRankOrder) {
  OnTheWorld(conformance::AllReduceFoldsInRankOrder);
}
TEST(MpiTest, BroadcastReachesAllFromAnyRoot) {
  OnTheWorld(conformance::BroadcastReachesAllFromAnyRoot);
}
TEST(MpiTest, ManyExchangesKeepTheirOrder) {
  OnTheWorld(conformance::ManyExchangesKeepTheirOrder);
}
TEST(MpiTest, SplitGroupsByColorAndOrdersByKey) {
  OnTheWorld(conformance::SplitGroupsByColorAndOrdersByKey);
}
TEST(MpiTest, EmptyExchangesTouchNothing) {
  OnTheWorld(conformance::EmptyExchangesTouchNothing);
}
TEST(MpiTest, AllToAllBringsEverySegmentToItsRank) {
  OnTheWorld(conformance::AllToAllBringsEverySegmentToItsRank);
}
TEST(MpiTest, AllToAllWorksInAGroupThatWasSplitOff) {
  OnTheWorld(conformance::AllToAllWorksInAGroupThatWasSplitOff);
}
TEST(MpiTest, CountsThatDoNotMatchAreNamedOnEveryRank) {
  OnTheWorld(conformance::CountsThatDoNotMatchAreNamedOnEveryRank);
}
TEST(MpiTest, AllToAllReportsWhyTheGroupWasAborted) {
  OnTheWorld(conformance::AllToAllReportsWhyTheGroupWasAborted);
}
TEST(MpiTest, FinishWaitsForThisRankAlone) {
  OnTheWorld(conformance::FinishWaitsForThisRankAlone);
}
TEST(MpiTest, NumbersThatNoEnumHasAreRefused) {
  OnTheWorld(conformance::AnUnknownDTypeIsRefused);
  OnTheWorld(conformance::AnUnknownReduceOperationIsRefused);
  OnTheWorld(conformance::AnUnknownPurposeIsRefused);
}
TEST(MpiTest, DifferentCallsAreNamedOnEveryRank) {
  if (TestSession().size() == 1) return;
  OnTheWorld(conformance::DifferentCallsAreNamedOnEveryRank);
}
TEST(MpiTest, AnAbsentRankIsNamedByAllOthers) {
  if (TestSession().size() == 1) return;
  OnTheWorld(conformance::AnAbsentRankIsNamedByAllOthers,
             absl::Milliseconds(500));
}
TEST(MpiTest, AnAbortEndsTheWaitOfItsRank) {
  if (TestSession().size() == 1) return;
  OnTheWorld(conformance::AnAbortEndsTheWaitOfItsRank);
}

TEST(MpiTest, LateStreamsChangeNoBit) {
  GroupOptions options;
  options.make_stream =
      DelayedStream::Factory(7, std::chrono::microseconds(3000));
  ASSERT_OK_AND_ASSIGN(auto group, TestSession().World(options));
  conformance::ReduceScatterSumsInRankOrder(*group);
  conformance::ManyExchangesKeepTheirOrder(*group);
  conformance::SplitGroupsByColorAndOrdersByKey(*group);
}

TEST(MpiTest, WrapsATrainersCommunicatorAndLeavesItInWorkingOrder) {
  const int rank = TestSession().rank();
  MPI_Comm reversed = MPI_COMM_NULL;
  MPI_Comm_split(MPI_COMM_WORLD, 0, -rank, &reversed);
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(reversed));
  EXPECT_EQ(group->rank(), TestSession().size() - 1 - rank);
  EXPECT_TRUE(group->overlaps()) << "the session asked for THREAD_MULTIPLE";
  EXPECT_OK(group->Close());
  EXPECT_EQ(MPI_Barrier(reversed), MPI_SUCCESS);
  EXPECT_EQ(MPI_Comm_free(&reversed), MPI_SUCCESS);
  EXPECT_THAT(group->Barrier(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

int duplicates = 0;  // Of an attribute, and so of its communicator.
int Duplicated(MPI_Comm, int, void*, void*, void*, int* copied) {
  ++duplicates;
  *copied = 1;
  return MPI_SUCCESS;
}
int Freed(MPI_Comm, int, void*, void*) {
  --duplicates;
  return MPI_SUCCESS;
}

TEST(MpiTest, ACloseGivesBackAllCommunicatorsThatAWrapMade) {
  MPI_Comm original = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &original);
  int key = MPI_KEYVAL_INVALID;
  MPI_Comm_create_keyval(Duplicated, Freed, &key, nullptr);
  MPI_Comm_set_attr(original, key, nullptr);
  for (int round = 0; round < 50; ++round) {
    ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(original));
    ASSERT_OK_AND_ASSIGN(auto half, group->Split(group->rank() % 2, 0));
    EXPECT_OK(half->Barrier());
    EXPECT_GT(duplicates, 0);
    // The order must not matter.
    EXPECT_OK(round % 2 == 0 ? half->Close() : group->Close());
    EXPECT_OK(round % 2 == 0 ? group->Close() : half->Close());
    ASSERT_EQ(duplicates, 0) << "round " << round;
  }
  MPI_Comm_delete_attr(original, key);
  MPI_Comm_free_keyval(&key);
  MPI_Comm_free(&original);
}

// Of an exchange, what did not go through shared memory.
int64_t BytesBetweenHosts(Communicator& group) {
  std::vector<int64_t> data(1000, 1);
  EXPECT_OK(
      group.AllReduce(data.data(), 1000, DType::kInt64, ReduceOp::kSum, {}));
  EXPECT_OK(conformance::Drain(group));
  return group.level_traffic()[int(Purpose::kControl)].between_hosts;
}

TEST(MpiTest, ASignalWhileMemoryIsReservedCostsNoSharedMemory) {
  if (TestSession().size() == 1) return;
  failure = EINTR;
  failures = 3;
  ASSERT_OK_AND_ASSIGN(auto group, TestSession().World());
  EXPECT_EQ(failures.exchange(0), 0);
  EXPECT_EQ(BytesBetweenHosts(*group), 0);
  EXPECT_OK(group->Close());
}

TEST(MpiTest, AWarningOfNoSharedMemoryAdvisesOnSizeOnlyWhereThatHelps) {
  if (TestSession().size() == 1) return;
  failure = EACCES;
  failures = 1;
  testing::internal::CaptureStderr();
  const auto group = TestSession().World();
  const std::string warning = testing::internal::GetCapturedStderr();
  ASSERT_OK(group.status());
  if (TestSession().rank() == 0) {
    EXPECT_THAT(warning, HasSubstr("share no memory (Permission denied"));
    EXPECT_THAT(warning, Not(HasSubstr("larger")));
  }
  EXPECT_GT(BytesBetweenHosts(**group), 0);
  EXPECT_OK((*group)->Close());
}

TEST(MpiTest, ARankThatFailsWhileAGroupIsMadeIsHeardByThoseThatWaitForIt) {
  const int size = TestSession().size();
  if (size == 1) return;
  MPI_Comm notices = MPI_COMM_NULL;
  MPI_Comm copy = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &notices);
  MPI_Comm_dup(MPI_COMM_WORLD, &copy);
  constexpr absl::Duration kTimeout = absl::Seconds(20);
  auto watch = std::make_shared<MpiWatch>(
      notices,
      MpiWatch::Hosts{std::vector<int>(size),
                      std::vector<std::string>(size, "here")},
      kTimeout, true);
  MpiSetup setup(kTimeout, nullptr);
  setup.ListenTo(watch);
  const bool fails = TestSession().rank() == 1;
  if (fails) {
    watch->Break(absl::AbortedError("no way to rank 7"));
  } else {
    EXPECT_THAT(
        setup.AllGather(copy, 1),
        StatusIs(absl::StatusCode::kAborted, HasSubstr("no way to rank 7")));
  }
  MPI_Barrier(MPI_COMM_WORLD);
  // For the others still gather.
  MpiSetup late(kTimeout, nullptr);
  if (fails) {
    EXPECT_OK(late.AllGather(copy, 1));
  }
  MPI_Barrier(MPI_COMM_WORLD);
}

TEST(MpiTest, RefusesAForeignHandleAndANullCommunicator) {
  const char foreign[3] = {};
  EXPECT_THAT(
      internal::WrapMpiHandle(foreign, 3, {}),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("another MPI")));
  EXPECT_THAT(
      WrapMpi(MPI_COMM_NULL),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("MPI_COMM_NULL")));
}

TEST(MpiTest, ASecondSessionIsRefused) {
  EXPECT_THAT(MpiSession::Start(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
}

TEST(MpiTest, DescribesTheLibraryWithoutItsBuildNotes) {
  bool available = false;
  const std::string text = MpiDescription(&available);
  EXPECT_TRUE(available);
  EXPECT_THAT(text, Not(HasSubstr(",")));
  EXPECT_THAT(text, Not(HasSubstr("\n")));
  EXPECT_THAT(text, HasSubstr("."));
}

}  // namespace
}  // namespace zeromini
