#include "shard/exchange_buffers.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "shard/exchange_places.h"

namespace zeromini {

inline bool operator==(const BufferClass& a, const BufferClass& b) {
  return a.bytes == b.bytes && a.count == b.count;
}
inline void PrintTo(const BufferClass& own, std::ostream* os) {
  *os << own.count << " x " << own.bytes;
}

namespace {

using testing::ElementsAre;
using testing::IsEmpty;

// `tensors` of one bucket each, by their elements on each of two ranks.
struct Case {
  Case() {
    options.stage = 2;
    plan.options.ranks = 2;
  }
  Case& Add(std::vector<int64_t> segments) {
    for (const int64_t segment : segments) {
      AddParam();
      AddBucket({static_cast<int>(plan.params.size()) - 1}, segment);
    }
    return *this;
  }
  void AddParam() {
    const int index = static_cast<int>(plan.params.size());
    plan.params.emplace_back();
    plan.params.back().owner = index;
    plan.params.back().sharers = {index};
  }
  void AddTied(int owner) {
    const int index = static_cast<int>(plan.params.size());
    plan.params.emplace_back();
    plan.params.back().owner = owner;
    plan.params.back().tied_to = owner;
    plan.params[owner].sharers.push_back(index);
  }
  void AddBucket(const std::vector<int>& params, int64_t segment) {
    BucketPlan bucket;
    for (int p : params) {
      plan.params[p].buckets.push_back(static_cast<int>(plan.buckets.size()));
      bucket.parts.push_back({p, 0, 1});
    }
    bucket.region = 0;
    bucket.segment = bucket.wire_segment = segment;
    bucket.elements = bucket.wire_elements = 2 * segment;
    plan.buckets.push_back(std::move(bucket));
  }
  // Weights pass through no buffer.
  Case& GradientsAlone() {
    options.stage = 3;
    options.memory = MemoryForm::kFlat;
    return *this;
  }
  std::vector<BufferClass> Buffers() const {
    return ExchangeBuffers(plan, options);
  }

  Plan plan;
  OptimizerOptions options;
};

TEST(ExchangeBuffersTest, OneBufferFillsAndOneTravels) {
  EXPECT_THAT(Case().GradientsAlone().Add({10, 10, 10}).Buffers(),
              ElementsAre(BufferClass{80, 2}));
  EXPECT_THAT(Case().GradientsAlone().Add({10}).Buffers(),
              ElementsAre(BufferClass{80, 1}))
      << "there is no further bucket to fill meanwhile";
}

TEST(ExchangeBuffersTest, AClassHoldsWhatIsAtLeastHalfAsLarge) {
  EXPECT_THAT(
      Case().GradientsAlone().Add({10, 5, 20, 9, 3}).Buffers(),
      ElementsAre(BufferClass{24, 1}, BufferClass{72, 2}, BufferClass{160, 2}));
}

TEST(ExchangeBuffersTest, ABucketIsInUseFromItsFirstGradientUntilItsTurn) {
  Case c;
  c.GradientsAlone();
  for (int p = 0; p < 4; ++p) c.AddParam();
  // Of the last bucket, the first parameter comes last: all others wait.
  c.AddBucket({1}, 10);
  c.AddBucket({2}, 10);
  c.AddBucket({0, 3}, 10);
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 3}));
}

TEST(ExchangeBuffersTest, OfALargeTensorOneBucketLeavesBeforeTheNextFills) {
  Case c;
  c.GradientsAlone();
  c.AddParam();
  for (int bucket = 0; bucket < 5; ++bucket) c.AddBucket({0}, 10);
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 2}));
  std::swap(c.plan.params[0].buckets[0], c.plan.params[0].buckets[3]);
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 2}));
}

TEST(ExchangeBuffersTest, ATiedTensorIsCompleteWithTheFirstOfItsSharers) {
  Case c;
  c.GradientsAlone().Add({10, 10, 10});
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 2}));
  c.AddTied(0);  // Given first and last, as an output's weights are.
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 3}));
  c.AddTied(1);
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 3}));
}

TEST(ExchangeBuffersTest, ManyThatFillAtATimeTakeNoLargerBuffersOfOthers) {
  Case c;
  c.GradientsAlone().AddParam();
  for (int bucket = 0; bucket < 4; ++bucket) c.AddBucket({0}, 6);
  c.Add({10}).AddTied(0);
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{48, 4}, BufferClass{80, 1}));
}

TEST(ExchangeBuffersTest, TheLastBucketWaitsForAllSharersAndOthersForIt) {
  Case c;
  c.GradientsAlone();
  for (int p = 0; p < 3; ++p) c.AddParam();
  c.AddBucket({1}, 10);
  c.AddBucket({2}, 10);
  c.AddBucket({0}, 10);
  c.AddTied(0);
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 3}));
}

TEST(ExchangeBuffersTest, AFrozenParameterHasNoPartInIt) {
  Case c;
  c.GradientsAlone().Add({10, 10});
  c.AddParam();
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 2}));
}

TEST(ExchangeBuffersTest, WhatTravelsMeanwhileMustFitTheBudgetTheLargestFirst) {
  Case c;
  c.GradientsAlone().Add({2, 2, 10, 10});
  const BufferClass one_small = {16, 1}, two_small = {16, 2};
  const BufferClass one_large = {80, 1}, two_large = {80, 2};
  c.options.buffer_budget_bytes = kNoBufferBudget;
  EXPECT_THAT(c.Buffers(), ElementsAre(two_small, two_large));
  c.options.buffer_budget_bytes = 192;
  EXPECT_THAT(c.Buffers(), ElementsAre(two_small, two_large));
  c.options.buffer_budget_bytes = 191;
  EXPECT_THAT(c.Buffers(), ElementsAre(one_small, two_large));
  c.options.buffer_budget_bytes = 175;
  EXPECT_THAT(c.Buffers(), ElementsAre(two_small, one_large));
  c.options.buffer_budget_bytes = 1;
  EXPECT_THAT(c.Buffers(), ElementsAre(one_small, one_large))
      << "what must fill is needed, budget or not";
}

TEST(ExchangeBuffersTest, WeightsTakeTwoAndOneWithoutRoom) {
  Case c;
  c.options.stage = 1;
  c.options.micro_steps = 2;  // Gradients are kept elsewhere.
  EXPECT_THAT(c.Add({10}).Buffers(), ElementsAre(BufferClass{80, 1}));
  EXPECT_THAT(c.Add({10, 10}).Buffers(), ElementsAre(BufferClass{80, 2}));
  c.options.buffer_budget_bytes = 100;
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{80, 1}));
}

TEST(ExchangeBuffersTest, HalfAsWideWeightsShareTheBuffersOfGradients) {
  Case c;
  c.Add({10, 10, 4, 4});
  for (BucketPlan& bucket : c.plan.buckets) bucket.dtype = DType::kBFloat16;
  EXPECT_THAT(c.Buffers(), ElementsAre(BufferClass{32, 2}, BufferClass{80, 2}));
}

class ExchangePlacesTest : public testing::Test {
 protected:
  ExchangePlacesTest() { c_.Add({10}); }

  GradientPlace place() const {
    return PlaceOfGradients(c_.plan.buckets[0], c_.options);
  }
  bool weights() const { return WeightsNeedBuffer(c_.plan, 0, c_.options); }

  Case c_;
};

TEST_F(ExchangePlacesTest, GradientsAreAtHomeInFlatMemoryAtStageOneAlone) {
  c_.options.memory = MemoryForm::kFlat;
  c_.options.stage = 1;
  EXPECT_EQ(place(), GradientPlace::kHome);
  c_.options.micro_steps = 2;
  EXPECT_EQ(place(), GradientPlace::kHome);
  for (int stage : {2, 3}) {
    c_.options.stage = stage;
    EXPECT_EQ(place(), GradientPlace::kBuffer);
  }
}

TEST_F(ExchangePlacesTest, GradientsThatHaveAnotherFormOnTheWireAreNotAtHome) {
  c_.options.memory = MemoryForm::kFlat;
  c_.options.stage = 1;
  BucketPlan& bucket = c_.plan.buckets[0];
  const BucketPlan plain = bucket;
  bucket.region = -1;
  EXPECT_EQ(place(), GradientPlace::kBuffer);
  bucket = plain;
  bucket.dtype = DType::kBFloat16;
  EXPECT_EQ(place(), GradientPlace::kBuffer);
  bucket = plain;
  bucket.wire_elements = 4;
  EXPECT_EQ(place(), GradientPlace::kBuffer);
  c_.options.micro_steps = 2;
  EXPECT_EQ(place(), GradientPlace::kKept);
}

TEST_F(ExchangePlacesTest, ASegmentHasRoomForEitherFormOfAGradient) {
  BucketPlan& bucket = c_.plan.buckets[0];
  EXPECT_EQ(GradientSegmentBytes(bucket), 40);
  bucket.wire_segment = 3;
  EXPECT_EQ(GradientSegmentBytes(bucket), 40);
  bucket.wire_segment = 12;
  EXPECT_EQ(GradientSegmentBytes(bucket), 48);
}

TEST_F(ExchangePlacesTest, WeightsNeedABufferWhereTheyAreNotOneArray) {
  EXPECT_TRUE(weights());
  c_.options.memory = MemoryForm::kFlat;
  EXPECT_FALSE(weights());
  c_.plan.buckets[0].region = -1;
  EXPECT_TRUE(weights());
  c_.options.stage = 3;
  EXPECT_FALSE(weights());
}

TEST_F(ExchangePlacesTest, OneRankNeedsABufferOnlyForWhatIsRoundedOrTurned) {
  c_.plan.options.ranks = 1;
  EXPECT_FALSE(weights());
  c_.plan.params[0].transposed = true;
  EXPECT_TRUE(weights());
  c_.plan.params[0].transposed = false;
  c_.options.weight_wire = DType::kBFloat16;
  EXPECT_TRUE(weights());
}

}  // namespace
}  // namespace zeromini
