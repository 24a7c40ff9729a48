#include "tests/comm/conformance.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/comm/elements.h"
#include "tests/support/status_matchers.h"
#include "zeromini/internal/half.h"

namespace zeromini {
namespace conformance {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Exchange kGrads{Purpose::kGradients, 3, 0};

float SumInRankOrder(int size, int64_t i) {
  float sum = Element(0, i);
  for (int r = 1; r < size; ++r) sum += Element(r, i);
  return sum;
}

// One element type: how Element() is stored and read back.
template <typename T>
struct Typed {
  DType dtype;
  T (*store)(float);
  float (*load)(T);
};

template <typename T>
T FoldInRankOrder(const Typed<T>& type, ReduceOp op, int size, int64_t i) {
  float result = type.load(type.store(Element(0, i)));
  for (int r = 1; r < size; ++r) {
    const float value = type.load(type.store(Element(r, i)));
    if (op == ReduceOp::kSum) result += value;
    if (op == ReduceOp::kMax) result = std::max(result, value);
    if (op == ReduceOp::kMin) result = std::min(result, value);
  }
  return type.store(result);
}

template <typename T>
void CheckAllReduce(Communicator& group, const Typed<T>& type, ReduceOp op,
                    int64_t count) {
  std::vector<T> data(count);
  for (int64_t i = 0; i < count; ++i) {
    data[i] = type.store(Element(group.rank(), i));
  }
  EXPECT_OK(group.AllReduce(data.data(), count, type.dtype, op, kGrads));
  ASSERT_OK(Drain(group));
  int64_t wrong = 0;
  for (int64_t i = 0; i < count; ++i) {
    const T expected = FoldInRankOrder(type, op, group.size(), i);
    wrong += std::memcmp(&expected, &data[i], sizeof(T)) != 0;
  }
  EXPECT_EQ(wrong, 0) << "dtype " << static_cast<int>(type.dtype) << ", op "
                      << static_cast<int>(op) << ", count " << count;
}

}  // namespace

absl::Status Drain(Communicator& group) {
  return group.Finish(absl::Now() + absl::Minutes(1));
}

void ReduceScatterSumsInRankOrder(Communicator& group) {
  for (int64_t count : kCounts) {
    const std::vector<float> in = Elements(group.rank(), count * group.size());
    std::vector<float> out(count);
    EXPECT_OK(group.ReduceScatter(in.data(), out.data(), count, DType::kFloat32,
                                  kGrads));
    ASSERT_OK(Drain(group));
    int64_t wrong = 0;
    for (int64_t i = 0; i < count; ++i) {
      wrong += out[i] != SumInRankOrder(group.size(), group.rank() * count + i);
    }
    EXPECT_EQ(wrong, 0) << "count " << count;
    EXPECT_EQ(in, Elements(group.rank(), count * group.size()));
  }
}

void ReduceScatterInPlaceLeavesOtherSegmentsAlone(Communicator& group) {
  for (int64_t count : kCounts) {
    std::vector<float> data = Elements(group.rank(), count * group.size());
    const std::vector<float> before = data;
    EXPECT_OK(group.ReduceScatter(data.data(),
                                  data.data() + group.rank() * count, count,
                                  DType::kFloat32, kGrads));
    ASSERT_OK(Drain(group));
    int64_t wrong = 0;
    for (int64_t i = 0; i < count * group.size(); ++i) {
      wrong += data[i] != (i / count == group.rank()
                               ? SumInRankOrder(group.size(), i)
                               : before[i]);
    }
    EXPECT_EQ(wrong, 0) << "count " << count;
  }
}

void AllGatherPutsEverySegmentInPlace(Communicator& group) {
  for (bool in_place : {false, true}) {
    for (int64_t count : kCounts) {
      const std::vector<float> own = Elements(group.rank(), count);
      std::vector<float> out(count * group.size(), -1.0f);
      float* segment = out.data() + group.rank() * count;
      if (in_place) std::copy(own.begin(), own.end(), segment);
      EXPECT_OK(group.AllGather(in_place ? segment : own.data(), out.data(),
                                count, DType::kFloat32, kGrads));
      ASSERT_OK(Drain(group));
      int64_t wrong = 0;
      for (int64_t i = 0; i < count * group.size(); ++i) {
        wrong += out[i] != Element(static_cast<int>(i / count), i % count);
      }
      EXPECT_EQ(wrong, 0) << "count " << count << ", in place " << in_place;
    }
  }
}

void AllReduceFoldsInRankOrder(Communicator& group) {
  const Typed<float> fp32{DType::kFloat32, [](float x) { return x; },
                          [](float x) { return x; }};
  const Typed<uint16_t> bf16{DType::kBFloat16, ToBFloat16, FromBFloat16};
  const Typed<uint16_t> fp16{DType::kFloat16, ToFloat16, FromFloat16};
  const Typed<int64_t> int64{
      DType::kInt64, [](float x) { return int64_t{std::llround(x * 1024)}; },
      [](int64_t x) { return static_cast<float>(x) / 1024; }};
  // 5 and 4001: gathered whole. The others: by segments, the last one short.
  for (int64_t count : {5, 4001, 40001, 600011}) {
    CheckAllReduce(group, fp32, ReduceOp::kSum, count);
  }
  for (int64_t count : {5, 40001}) {
    for (ReduceOp op : {ReduceOp::kSum, ReduceOp::kMax, ReduceOp::kMin}) {
      CheckAllReduce(group, fp32, op, count);
      CheckAllReduce(group, bf16, op, count);
      CheckAllReduce(group, fp16, op, count);
      CheckAllReduce(group, int64, op, count);
    }
  }
}

void BroadcastReachesAllFromAnyRoot(Communicator& group) {
  for (int root = 0; root < group.size(); ++root) {
    for (int64_t count : {1, 700001}) {
      std::vector<float> data = Elements(group.rank(), count);
      EXPECT_OK(group.Broadcast(data.data(), count * 4, root, kGrads));
      ASSERT_OK(Drain(group));
      EXPECT_EQ(data, Elements(root, count)) << "root " << root;
    }
  }
}

void ManyExchangesKeepTheirOrder(Communicator& group) {
  constexpr int kExchanges = 50;
  constexpr int64_t kCount = 100;
  std::vector<std::vector<float>> data;
  for (int b = 0; b < kExchanges; ++b) {
    data.push_back(Elements(group.rank() + b, kCount));
  }
  for (int b = 0; b < kExchanges; ++b) {
    EXPECT_OK(group.AllReduce(data[b].data(), kCount, DType::kFloat32,
                              ReduceOp::kMax, {Purpose::kScalars, b, 0}));
  }
  EXPECT_OK(group.Barrier());
  for (int b = 0; b < kExchanges; ++b) {
    for (int64_t i = 0; i < kCount; ++i) {
      float largest = Element(b, i);
      for (int r = 1; r < group.size(); ++r) {
        largest = std::max(largest, Element(r + b, i));
      }
      ASSERT_EQ(data[b][i], largest) << "exchange " << b << ", element " << i;
    }
  }
}

void SplitGroupsByColorAndOrdersByKey(Communicator& group) {
  // Even ranks in reverse order; odd ranks stay out.
  const bool joins = group.rank() % 2 == 0;
  ASSERT_OK_AND_ASSIGN(
      auto evens, group.Split(joins ? 7 : -1, group.size() - group.rank()));
  EXPECT_EQ(evens != nullptr, joins);
  if (joins) {
    const int size = (group.size() + 1) / 2;
    ASSERT_EQ(evens->size(), size);
    EXPECT_EQ(evens->rank(), size - 1 - group.rank() / 2);
    EXPECT_EQ(evens->stream().native, group.stream().native);
    int64_t sum = group.rank();
    EXPECT_OK(evens->AllReduce(&sum, 1, DType::kInt64, ReduceOp::kSum, kGrads));
    ASSERT_OK(Drain(*evens));
    EXPECT_EQ(sum, size * (size - 1));
    EXPECT_OK(evens->Close());
  }
  // Equal keys: by rank. And the parent still works.
  ASSERT_OK_AND_ASSIGN(auto all, group.Split(0, 0));
  EXPECT_EQ(all->rank(), group.rank());
  EXPECT_EQ(all->size(), group.size());
  EXPECT_OK(all->Barrier());
  EXPECT_OK(group.Barrier());
  EXPECT_OK(all->Close());
}

void FinishWaitsForThisRankAlone(Communicator& group) {
  EXPECT_EQ(&group.control(), &group) << "its tensors are in host memory";
  int64_t sum = 1;
  EXPECT_OK(group.AllReduce(&sum, 1, DType::kInt64, ReduceOp::kSum, kGrads));
  EXPECT_OK(group.Finish(absl::InfiniteFuture()));
  EXPECT_EQ(sum, group.size());
  // Were it collective, rank 0 would wait for the others.
  if (group.rank() == 0) {
    EXPECT_OK(group.Finish(absl::Now() + absl::Seconds(30)));
  }
  EXPECT_OK(group.Barrier());
}

void EmptyExchangesTouchNothing(Communicator& group) {
  EXPECT_OK(group.ReduceScatter(nullptr, nullptr, 0, DType::kFloat32, kGrads));
  EXPECT_OK(group.AllGather(nullptr, nullptr, 0, DType::kFloat32, kGrads));
  EXPECT_OK(group.AllReduce(nullptr, 0, DType::kFloat32, ReduceOp::kSum, {}));
  EXPECT_OK(group.Broadcast(nullptr, 0, 0, kGrads));
  const std::vector<int64_t> none(group.size(), 0);
  EXPECT_OK(
      group.AllToAllV(nullptr, none, nullptr, none, DType::kFloat32, kGrads));
  EXPECT_OK(group.Barrier());
}

namespace {

// All ranks reduce ones in the way that only rank 0 gets wrong.
void ExpectRefusal(Communicator& group, DType dtype, ReduceOp op,
                   Purpose purpose, const char* why) {
  const bool wrong = group.rank() == 0;
  std::vector<float> data(4, 1.0f);
  absl::Status status = group.AllReduce(
      data.data(), 4, wrong ? dtype : DType::kFloat32,
      wrong ? op : ReduceOp::kSum, {wrong ? purpose : Purpose::kGradients});
  if (wrong) {
    EXPECT_FALSE(status.ok());
  }
  status.Update(Drain(group));
  EXPECT_THAT(status,
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why)));
}

}  // namespace

void AnUnknownDTypeIsRefused(Communicator& group) {
  ExpectRefusal(group, static_cast<DType>(7), ReduceOp::kSum,
                Purpose::kGradients, "there is no dtype 7");
}

void AnUnknownReduceOperationIsRefused(Communicator& group) {
  ExpectRefusal(group, DType::kFloat32, static_cast<ReduceOp>(3),
                Purpose::kGradients, "there is no reduce operation 3");
}

void AnUnknownPurposeIsRefused(Communicator& group) {
  ExpectRefusal(group, DType::kFloat32, ReduceOp::kSum,
                static_cast<Purpose>(kPurposes), "there is no purpose 5");
}

void DifferentCallsAreNamedOnEveryRank(Communicator& group) {
  std::vector<float> data(8 * group.size());
  const bool odd_one = group.rank() == 1;
  absl::Status status =
      odd_one ? group.AllGather(data.data(), data.data(), 4, DType::kFloat32,
                                {Purpose::kWeights, 5, 0})
              : group.ReduceScatter(data.data(), data.data(), 8,
                                    DType::kFloat32, kGrads);
  status.Update(Drain(group));
  const auto names_both = StatusIs(
      absl::StatusCode::kInvalidArgument,
      AllOf(
          HasSubstr(
              "rank 0 calls reduce-scatter of gradients, bucket 3, 8 x fp32"),
          HasSubstr("rank 1 calls all-gather of weights, bucket 5, 4 x fp32")));
  EXPECT_THAT(status, names_both);
  EXPECT_THAT(group.Barrier(), names_both) << "the first error stays";
  EXPECT_THAT(group.Split(0, 0), names_both);
  EXPECT_THAT(group.Close(), names_both);
}

void AnAbsentRankIsNamedByAllOthers(Communicator& group) {
  const int absent = group.size() - 1;
  float value = 1;
  if (group.rank() == absent) {
    // Late enough that all the others have given up.
    std::this_thread::sleep_for(absl::ToChronoNanoseconds(4 * group.timeout()));
    return;
  }
  absl::Status status =
      group.AllReduce(&value, 1, DType::kFloat32, ReduceOp::kSum, kGrads);
  status.Update(Drain(group));
  const auto names_it = StatusIs(
      absl::StatusCode::kDeadlineExceeded,
      AllOf(HasSubstr(group.backend()),
            HasSubstr("all-reduce of gradients, bucket 3"),
            HasSubstr(absl::StrCat("; rank ", absent, " did not come"))));
  EXPECT_THAT(status, names_it);
  EXPECT_THAT(group.Barrier(), names_it);
}

void AnAbortEndsTheWaitOfItsRank(Communicator& group) {
  if (group.rank() != 0) return;  // So rank 0 waits.
  std::thread aborter([&group] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    group.Abort(absl::CancelledError("the trainer was interrupted"));
  });
  const auto why =
      StatusIs(absl::StatusCode::kCancelled, "the trainer was interrupted");
  EXPECT_THAT(group.Barrier(), why);
  EXPECT_THAT(group.Barrier(), why);
  aborter.join();
}

}  // namespace conformance
}  // namespace zeromini
