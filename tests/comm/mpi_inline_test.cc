// A trainer that initialised MPI itself, below MPI_THREAD_MULTIPLE: FUNNELED,
// or SERIALIZED if the program is told so.

#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
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
  conformance::AllToAllBringsEverySegmentToItsRank(*group);
  conformance::FinishWaitsForThisRankAlone(*group);
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

// How the last rank fails alone; the others wait for it, and are told.
void TheLastRankFails(const std::function<void(Communicator&)>& fail,
                      const std::string& why) {
  GroupOptions options;
  options.timeout = absl::Seconds(20);
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(MPI_COMM_WORLD, options));
  if (group->size() == 1) return;
  if (group->rank() == group->size() - 1) fail(*group);
  const absl::Status status = group->Barrier();
  EXPECT_THAT(status.message(), testing::HasSubstr(why))
      << "rank " << group->rank();
}

TEST(MpiInlineTest, AnAbortIsTheErrorOfRanksThatWait) {
  TheLastRankFails(
      [](Communicator& group) { group.Abort(absl::AbortedError("ill")); },
      "ill");
}

TEST(MpiInlineTest, ABadArgumentIsTheErrorOfRanksThatWait) {
  TheLastRankFails(
      [](Communicator& group) {
        int64_t value = 0;
        EXPECT_FALSE(group
                         .AllReduce(&value, -1, DType::kInt64, ReduceOp::kSum,
                                    Exchange())
                         .ok());
      },
      "-1");
}

TEST(MpiInlineTest, AnAbortOnAnotherThreadIsToldAtTheMainThreadsNextCall) {
  TheLastRankFails(
      [](Communicator& group) {
        std::thread([&] { group.Abort(absl::AbortedError("ill")); }).join();
      },
      "ill");
}

TEST(MpiInlineTest, AnAbortOnAnotherThreadIsToldWhenTheGroupGoes) {
  GroupOptions options;
  options.timeout = absl::Seconds(20);
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(MPI_COMM_WORLD, options));
  if (group->rank() == 0) {
    std::thread([&] { group->Abort(absl::AbortedError("ill")); }).join();
    return;
  }
  EXPECT_THAT(group->Barrier().message(), testing::HasSubstr("ill"));
}

TEST(MpiInlineTest, AnExchangeThatIsDroppedIsTheErrorOfRanksThatWait) {
  TheLastRankFails(
      [](Communicator& group) {
        int64_t value = 0;
        std::thread([&] {
          EXPECT_OK(group.AllReduce(&value, 1, DType::kInt64, ReduceOp::kSum,
                                    Exchange()));
        }).join();
        HostStream::From(group.stream())->Poison(absl::AbortedError("ill"));
      },
      "had failed before");
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
  const bool serialized = argc > 1 && std::strcmp(argv[1], "serialized") == 0;
  MPI_Init_thread(&argc, &argv,
                  serialized ? MPI_THREAD_SERIALIZED : MPI_THREAD_FUNNELED,
                  &provided);
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
