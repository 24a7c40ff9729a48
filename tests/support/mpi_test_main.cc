#include <mpi.h>

#include <cstdio>
#include <memory>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/mpi_session.h"

namespace zeromini {
namespace {

// Rank 0 reports as usual, the others speak only when a test fails.
class FailurePrinter : public testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::fprintf(stderr, "rank %d: %s:%d: %s\n", rank_, result.file_name(),
                 result.line_number(), result.message());
  }
  const int rank_;
};

std::unique_ptr<MpiSession>& SessionSlot() {
  static std::unique_ptr<MpiSession> session;
  return session;
}

}  // namespace

MpiSession& TestSession() { return *SessionSlot(); }

}  // namespace zeromini

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  auto session = zeromini::MpiSession::Start();
  if (!session.ok()) {
    std::fprintf(stderr, "%s\n", session.status().ToString().c_str());
    return 1;
  }
  zeromini::SessionSlot() = *std::move(session);
  const int rank = zeromini::TestSession().rank();
  if (rank != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new zeromini::FailurePrinter(rank));
  }
  const int failed = RUN_ALL_TESTS();
  // The session would leave it out where a rank was lost, but the absent ranks
  // of tests come back.
  MPI_Finalize();
  zeromini::SessionSlot().reset();
  return failed;
}
