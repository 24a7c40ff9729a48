// A trainer that initialised MPI itself, below MPI_THREAD_MULTIPLE.

#include <cstdio>

#include "tests/comm/conformance.h"
#include "tests/support/status_matchers.h"
#include "zeromini/mpi.h"

namespace zeromini {
namespace {

TEST(MpiInlineTest, ExchangesRunOnTheCallersThread) {
  ASSERT_OK_AND_ASSIGN(auto group, WrapMpi(MPI_COMM_WORLD));
  EXPECT_FALSE(group->overlaps());
  EXPECT_EQ(group->stream().native, nullptr);
  conformance::ReduceScatterSumsInRankOrder(*group);
  conformance::AllGatherPutsEverySegmentInPlace(*group);
  conformance::AllReduceFoldsInRankOrder(*group);
  conformance::SplitGroupsByColorAndOrdersByKey(*group);
  EXPECT_OK(group->Close());
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
