// The part of the conformance that is about wire formats and plans.

#include <algorithm>
#include <cmath>
#include <vector>

#include "tests/comm/conformance.h"
#include "tests/comm/elements.h"
#include "tests/support/status_matchers.h"
#include "zeromini/internal/half.h"

namespace zeromini {
namespace conformance {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Exchange kRounded{Purpose::kGradients, 3, 0, DType::kBFloat16};

float Rounded(float value) { return FromBFloat16(ToBFloat16(value)); }

// What rank `owner` gets: its own contribution as it is, others rounded.
float RoundedSum(int size, int owner, int64_t i) {
  const auto seen = [&](int r) {
    return r == owner ? Element(r, i) : Rounded(Element(r, i));
  };
  float sum = seen(0);
  for (int r = 1; r < size; ++r) sum += seen(r);
  return sum;
}

}  // namespace

void ABFloat16SumRoundsAllContributionsButTheOwners(Communicator& group) {
  for (bool in_place : {false, true}) {
    for (int64_t count : kCounts) {
      const int64_t first = group.rank() * count;
      std::vector<float> in = Elements(group.rank(), count * group.size());
      const std::vector<float> before = in;
      std::vector<float> apart(count);
      float* out = in_place ? in.data() + first : apart.data();
      EXPECT_OK(group.ReduceScatter(in.data(), out, count, DType::kFloat32,
                                    kRounded));
      ASSERT_OK(Drain(group));
      int64_t wrong = 0;
      for (int64_t i = 0; i < count; ++i) {
        wrong += out[i] != RoundedSum(group.size(), group.rank(), first + i);
      }
      EXPECT_EQ(wrong, 0) << "count " << count << ", in place " << in_place;
      if (in_place) std::copy_n(before.data() + first, count, out);
      EXPECT_EQ(in, before) << "no other segment is changed";
    }
  }
}

void ABFloat16SumStaysWithinItsBoundAndReachesIt(Communicator& group) {
  constexpr int64_t kCount = 3000;
  constexpr double kBound = 1.0 / 256;
  const int size = group.size();
  // Element 0 lies half-way between two neighbours in bf16, at the low end of
  // their binade: no other rounds further.
  const auto element = [&](int rank, int64_t i) {
    if (i % kCount > 0) return std::abs(Element(rank, i));
    return i / kCount == rank ? 0.0f : 1.0f + 1.0f / 256;
  };
  std::vector<float> in(kCount * size);
  for (int64_t i = 0; i < kCount * size; ++i) in[i] = element(group.rank(), i);
  std::vector<float> out(kCount);
  EXPECT_OK(group.ReduceScatter(in.data(), out.data(), kCount, DType::kFloat32,
                                kRounded));
  ASSERT_OK(Drain(group));
  double worst = 0;
  for (int64_t i = 0; i < kCount; ++i) {
    double sum = 0;
    for (int r = 0; r < size; ++r) sum += element(r, group.rank() * kCount + i);
    const double error = std::abs(out[i] - sum);
    EXPECT_LE(error, kBound * sum) << "element " << i;
    if (sum > 0) worst = std::max(worst, error / sum);
  }
  if (size > 1) {
    EXPECT_GE(worst, kBound * 256 / 257);
  }
}

void ABFloat16GatherRoundsEverySegment(Communicator& group) {
  for (bool in_place : {false, true}) {
    for (int64_t count : kCounts) {
      const std::vector<float> own = Elements(group.rank(), count);
      std::vector<float> in = own;
      std::vector<float> out(count * group.size(), -1.0f);
      float* segment = out.data() + group.rank() * count;
      if (in_place) std::copy(own.begin(), own.end(), segment);
      EXPECT_OK(group.AllGather(in_place ? segment : in.data(), out.data(),
                                count, DType::kFloat32, kRounded));
      ASSERT_OK(Drain(group));
      int64_t wrong = 0;
      for (int64_t i = 0; i < count * group.size(); ++i) {
        const int peer = static_cast<int>(i / count);
        wrong += out[i] != Rounded(Element(peer, i % count));
      }
      EXPECT_EQ(wrong, 0) << "count " << count << ", in place " << in_place;
      EXPECT_EQ(in, own) << "the sender keeps what it had";
    }
  }
}

void DifferentWireFormatsAreNamedOnEveryRank(Communicator& group) {
  std::vector<float> data(8 * group.size());
  Exchange exchange = kRounded;
  if (group.rank() == 1) exchange.wire = DType::kFloat32;
  absl::Status status = group.ReduceScatter(data.data(), data.data(), 8,
                                            DType::kFloat32, exchange);
  status.Update(Drain(group));
  EXPECT_THAT(
      status,
      StatusIs(absl::StatusCode::kInvalidArgument,
               AllOf(HasSubstr("rank 0 calls reduce-scatter of gradients, "
                               "bucket 3, 8 x fp32 as bf16; "),
                     HasSubstr("rank 1 calls reduce-scatter of gradients, "
                               "bucket 3, 8 x fp32"))));
}

void DifferentPlansAreNamedOnEveryRank(Communicator& group) {
  std::vector<float> data(8 * group.size());
  Exchange exchange{Purpose::kWeights, 2};
  exchange.plan = group.rank() == group.size() - 1 ? 0xabc : 0x1234;
  absl::Status status =
      group.AllGather(data.data(), data.data(), 8, DType::kFloat32, exchange);
  status.Update(Drain(group));
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kInvalidArgument,
                       AllOf(HasSubstr("ranks have different plans: rank 0 has "
                                       "plan 0000000000001234, rank "),
                             HasSubstr(" has plan 0000000000000abc, in "
                                       "all-gather of weights, bucket 2"))));
}

}  // namespace conformance
}  // namespace zeromini
