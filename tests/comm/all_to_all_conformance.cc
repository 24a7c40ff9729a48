#include <functional>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/comm/conformance.h"
#include "tests/support/status_matchers.h"

namespace zeromini {
namespace conformance {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Exchange kWeights{Purpose::kWeights, 5, 0};
constexpr unsigned char kUntouched = 0xa5;

// How many elements rank `from` sends to rank `to`.
using Counts = std::function<int64_t(int from, int to)>;

unsigned char ByteAt(int from, int to, int64_t i) {
  uint64_t x = static_cast<uint64_t>(i) * 64 + from * 8 + to + 1;
  x *= 0x9e3779b97f4a7c15u;
  return static_cast<unsigned char>(x >> 56);
}

// One rank's part of an all-to-all, with what it must receive.
struct Part {
  Part(const Communicator& group, DType dtype, const Counts& counts)
      : type(dtype) {
    const int rank = group.rank();
    for (int peer = 0; peer < group.size(); ++peer) {
      send_counts.push_back(counts(rank, peer));
      receive_counts.push_back(counts(peer, rank));
      for (int64_t i = 0; i < send_counts.back() * SizeOf(type); ++i) {
        in.push_back(ByteAt(rank, peer, i));
      }
      for (int64_t i = 0; i < receive_counts.back() * SizeOf(type); ++i) {
        expected.push_back(ByteAt(peer, rank, i));
      }
    }
    out.assign(expected.size() + 8, kUntouched);
    expected.insert(expected.end(), 8, kUntouched);
  }

  // The counts are gone when it returns.
  absl::Status Give(Communicator& group) {
    std::vector<int64_t> sends = send_counts, receives = receive_counts;
    const absl::Status status =
        group.AllToAllV(in.data(), sends, out.data(), receives, type, kWeights);
    sends.assign(sends.size(), -1);
    receives.assign(receives.size(), -1);
    return status;
  }

  const DType type;
  std::vector<int64_t> send_counts, receive_counts;
  std::vector<unsigned char> in, out, expected;
};

void CheckAllToAll(Communicator& group, DType dtype, const char* what,
                   const Counts& counts) {
  Part part(group, dtype, counts);
  const std::vector<unsigned char> before = part.in;
  EXPECT_OK(part.Give(group));
  ASSERT_OK(Drain(group));
  EXPECT_TRUE(part.out == part.expected)
      << what << ", " << DTypeName(dtype) << ", rank " << group.rank();
  EXPECT_TRUE(part.in == before) << what;
}

int64_t Uneven(int from, int to) { return (from * 7 + to * 3) % 5; }

}  // namespace

void AllToAllBringsEverySegmentToItsRank(Communicator& group) {
  const int last = group.size() - 1;
  for (DType dtype : {DType::kFloat32, DType::kBFloat16, DType::kFloat16,
                      DType::kInt64, DType::kByte}) {
    CheckAllToAll(group, dtype, "equal counts", [](int, int) { return 3; });
    CheckAllToAll(group, dtype, "uneven counts", Uneven);
    CheckAllToAll(group, dtype, "chunks and a rest",
                  [](int from, int to) { return Uneven(from, to) * 40001; });
  }
  CheckAllToAll(group, DType::kFloat32, "rank 0 sends nothing",
                [](int from, int) { return from == 0 ? 0 : 1025; });
  CheckAllToAll(group, DType::kFloat32, "all sends to the last rank",
                [last](int, int to) { return to == last ? 70001 : 0; });
  CheckAllToAll(group, DType::kFloat32, "nothing at all",
                [](int, int) { return 0; });
  CheckAllToAll(group, DType::kFloat32, "to itself alone",
                [](int from, int to) { return from == to ? 5000 : 0; });
  CheckAllToAll(group, DType::kFloat32, "megabytes", [](int from, int to) {
    return (from + to) % 2 == 0 ? 0 : 1100003;
  });
}

void AllToAllWorksInAGroupThatWasSplitOff(Communicator& group) {
  ASSERT_OK_AND_ASSIGN(auto reversed, group.Split(0, -group.rank()));
  ASSERT_EQ(reversed->rank(), group.size() - 1 - group.rank());
  CheckAllToAll(*reversed, DType::kFloat32, "all in reverse", Uneven);
  EXPECT_OK(reversed->Close());
  ASSERT_OK_AND_ASSIGN(auto half, group.Split(group.rank() % 2, 0));
  CheckAllToAll(*half, DType::kInt64, "every other rank",
                [](int from, int to) { return 1000 + from + 2 * to; });
  EXPECT_OK(half->Close());
}

void CountsThatDoNotMatchAreNamedOnEveryRank(Communicator& group) {
  const int last = group.size() - 1;
  Part part(group, DType::kFloat32, Uneven);
  if (group.rank() == last) {
    ++part.receive_counts[0];
    part.out.resize(part.out.size() + 4);
  }
  absl::Status status = part.Give(group);
  status.Update(Drain(group));
  const auto names_both =
      StatusIs(absl::StatusCode::kInvalidArgument,
               HasSubstr(absl::StrCat(
                   "rank 0 sends ", Uneven(0, last), " elements to rank ", last,
                   ", which expects ", Uneven(0, last) + 1,
                   ", in all-to-all of weights, bucket 5, fp32")));
  EXPECT_THAT(status, names_both);
  EXPECT_EQ(part.out[0], kUntouched);
  EXPECT_THAT(group.Barrier(), names_both) << "the first error stays";
}

void AllToAllReportsWhyTheGroupWasAborted(Communicator& group) {
  group.Abort(absl::CancelledError("the trainer was interrupted"));
  Part part(group, DType::kFloat32, Uneven);
  EXPECT_THAT(part.Give(group), StatusIs(absl::StatusCode::kCancelled,
                                         "the trainer was interrupted"));
  EXPECT_EQ(part.out[0], kUntouched);
}

void ARankThatIsAbsentFromAnAllToAllIsNamed(Communicator& group) {
  const int absent = group.size() - 1;
  if (group.rank() == absent) return;
  Part part(group, DType::kFloat32, Uneven);
  absl::Status status = part.Give(group);
  status.Update(Drain(group));
  EXPECT_THAT(
      status,
      StatusIs(
          absl::StatusCode::kDeadlineExceeded,
          AllOf(HasSubstr("in all-to-all of weights, bucket 5, fp32"),
                HasSubstr(absl::StrCat("; rank ", absent, " did not come")))));
}

}  // namespace conformance
}  // namespace zeromini
