// A trainer that initialised MPI itself, below MPI_THREAD_MULTIPLE.

#include <cstdio>
#include <thread>

#include "tests/comm/conformance.h"
#include "tests/support/status_matchers.h"
#include "zeromini/mpi.h"

namespace zeromini {
namespace {

TEST(MpiInlineTest, ExchangesRunOnTheCallersThread) {
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(MPI_COMM_WORLD));
  EXPECT_FALSE(group->overlaps());
  conformance::ReduceScatterSumsInRankOrder(*group);
  conformance::AllGatherPutsEverySegmentInPlace(*group);
  conformance::AllReduceFoldsInRankOrder(*group);
  conformance::SplitGroupsByColorAndOrdersByKey(*group);
  EXPECT_OK(group->Close());
}

// Only the main thread may call MPI.
TEST(MpiInlineTest, AnExchangeOfAnotherThreadRunsAtTheMainThreadsNextCall) {
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(MPI_COMM_WORLD));
  const int64_t size = group->size();
  const int64_t mine = group->rank() + 1;
  int64_t first = mine;
  int64_t second = mine;
  const auto sum = [&group](int64_t* value) {
    EXPECT_OK(group->AllReduce(value, 1, DType::kInt64, ReduceOp::kSum, {}));
  };
  std::thread([&] { sum(&first); }).join();
  EXPECT_EQ(first, mine) << "it ran on the thread that must not call MPI";
  sum(&second);
  EXPECT_EQ(first, size * (size + 1) / 2);
  EXPECT_EQ(second, size * (size + 1) / 2);
  std::thread([&] { sum(&second); }).join();
  EXPECT_OK(conformance::Drain(*group));
  EXPECT_EQ(second, size * size * (size + 1) / 2);
  EXPECT_OK(group->Close());
}

TEST(MpiInlineTest, AWaitOnAnotherThreadSaysWhichOneMayExchange) {
  GroupOptions options;
  options.timeout = absl::Milliseconds(500);
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(MPI_COMM_WORLD, options));
  absl::Status status;
  std::thread([&] { status = group->Barrier(); }).join();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition,
                               testing::HasSubstr("only the thread that has "
                                                  "initialised MPI")));
  EXPECT_FALSE(group->Barrier().ok());
}

TEST(MpiInlineTest, ACommunicatorIsWrappedOnTheMainThreadOnly) {
  std::thread([] {
    EXPECT_THAT(WrapMpi(MPI_COMM_WORLD),
                StatusIs(absl::StatusCode::kFailedPrecondition,
                         testing::HasSubstr("wrap the communicator there")));
  }).join();
}

TEST(MpiInlineTest, DifferentCallsAreNamedOnEveryRank) {
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(MPI_COMM_WORLD));
  if (group->size() == 1) return;
  conformance::DifferentCallsAreNamedOnEveryRank(*group);
}

}  // namespace
}  // namespace zeromini

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  const auto early = zeromini::WrapMpi(MPI_COMM_WORLD);
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  int failed = 0;
  if (early.status().code() != absl::StatusCode::kFailedPrecondition) {
    std::fprintf(stderr, "wrapped before MPI_Init: %s\n",
                 early.status().ToString().c_str());
    failed = 1;
  }
  if (provided >= MPI_THREAD_MULTIPLE) {
    std::printf("skipped: this MPI always provides MPI_THREAD_MULTIPLE\n");
  } else {
    failed |= RUN_ALL_TESTS();
  }
  MPI_Finalize();
  return failed;
}
