#include "runtime/device/lease_pool.h"

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/status_matchers.h"

namespace zeromini {
namespace {

// A stream whose first task ends when it is told to.
class HeldStream {
 public:
  explicit HeldStream(Device& device)
      : stream_(HostStream::Create("held")), device_(device) {
    stream_->Enqueue([this] {
      std::unique_lock<std::mutex> lock(mutex_);
      freed_.wait(lock, [this] { return free_; });
      return absl::OkStatus();
    });
  }
  ~HeldStream() { Free(); }

  Event Record() { return device_.Record(stream_->handle()); }
  void Free() {
    std::lock_guard<std::mutex> lock(mutex_);
    free_ = true;
    freed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable freed_;
  bool free_ = false;
  const std::unique_ptr<HostStream> stream_;
  Device& device_;
};

class LeasePoolTest : public testing::Test {
 protected:
  using Classes = std::vector<BufferClass>;

  // One of exchange buffers, which never blocks.
  LeasePool Pool(int64_t budget, Classes classes, bool overlaps = true) {
    return LeasePool(
        *device_, {MemoryKind::kBuckets, budget, std::move(classes), overlaps,
                   absl::ZeroDuration()});
  }
  // One of gathered weights.
  LeasePool ExactPool(int64_t budget,
                      absl::Duration patience = absl::Seconds(20)) {
    return LeasePool(*device_,
                     {MemoryKind::kBuckets, budget, Classes(), true, patience});
  }
  LeasePool::Lease Take(LeasePool& pool, int64_t bytes) {
    auto lease = pool.Take(bytes);
    EXPECT_OK(lease.status());
    return *std::move(lease);
  }
  int64_t allocated() const { return device_->Memory().buckets; }

  const std::unique_ptr<Device> device_ =
      MakeHostDevice(CpuKernels(), absl::Seconds(20), nullptr);
};

TEST_F(LeasePoolTest, AllocatesUntilTheCountAndThenReusesTheLongestUnused) {
  LeasePool pool = Pool(/*budget=*/0, {{64, 3}});
  const void* first[3];
  for (const void*& buffer : first) {
    LeasePool::Lease lease = Take(pool, 64);
    EXPECT_EQ(lease.bytes, 64);
    buffer = lease.buffer.get();
    pool.Give(std::move(lease));
  }
  EXPECT_EQ(allocated(), 3 * 64);
  for (int round = 0; round < 2; ++round) {
    for (const void* buffer : first) {
      LeasePool::Lease lease = Take(pool, 64);
      EXPECT_EQ(lease.buffer.get(), buffer);
      pool.Give(std::move(lease));
    }
  }
  EXPECT_EQ(allocated(), 3 * 64);
}

TEST_F(LeasePoolTest, WithNoneGivenBackTheCountIsNoLimit) {
  LeasePool pool = Pool(0, {{64, 1}});
  const LeasePool::Lease a = Take(pool, 64);
  const LeasePool::Lease b = Take(pool, 64);
  EXPECT_NE(a.buffer, b.buffer);
  EXPECT_EQ(allocated(), 2 * 64);
}

TEST_F(LeasePoolTest, WithoutClassesOnlyABufferOfTheSameSizeIsReused) {
  LeasePool pool = ExactPool(0);
  LeasePool::Lease small = Take(pool, 64);
  const void* const buffer = small.buffer.get();
  pool.Give(std::move(small));
  const LeasePool::Lease large = Take(pool, 128);
  EXPECT_NE(large.buffer.get(), buffer);
  EXPECT_EQ(large.bytes, 128);
  EXPECT_EQ(Take(pool, 64).buffer.get(), buffer);
}

TEST_F(LeasePoolTest, ABufferInFlightIsReusedAndSaysWhatToWaitFor) {
  HeldStream stream(*device_);
  LeasePool pool = Pool(0, {{64, 1}});
  LeasePool::Lease lease = Take(pool, 64);
  const void* const buffer = lease.buffer.get();
  lease.ready = {stream.Record(), nullptr};
  lease.exchanged = lease.ready[0];
  pool.Give(std::move(lease));
  const LeasePool::Lease again = Take(pool, 64);
  EXPECT_EQ(again.buffer.get(), buffer);
  EXPECT_FALSE(device_->Passed(again.ready[0]));
  ASSERT_OK(pool.WaitFor(device_->compute(), again));
  const Event writes = device_->Record(device_->compute());
  EXPECT_TRUE(absl::IsDeadlineExceeded(
      device_->Synchronize(writes, absl::Now() + absl::Milliseconds(50))))
      << "it may still be read";
  stream.Free();
  EXPECT_OK(device_->Synchronize(writes, absl::Now() + absl::Seconds(20)));
}

TEST_F(LeasePoolTest, WithoutOverlapNoBufferIsReusedBeforeItsExchangeEnds) {
  HeldStream exchange(*device_), reader(*device_);
  LeasePool pool = Pool(0, {{64, 1}}, /*overlaps=*/false);
  LeasePool::Lease lease = Take(pool, 64);
  const void* const buffer = lease.buffer.get();
  lease.exchanged = exchange.Record();
  lease.ready = {reader.Record(), nullptr};
  pool.Give(std::move(lease));
  {
    const LeasePool::Lease other = Take(pool, 64);
    EXPECT_NE(other.buffer.get(), buffer);
  }
  const Event ended = exchange.Record();
  exchange.Free();
  ASSERT_OK(device_->Synchronize(ended, absl::Now() + absl::Seconds(20)));
  // Its reader needs no thread that waits for it.
  EXPECT_EQ(Take(pool, 64).buffer.get(), buffer);
  reader.Free();
}

TEST_F(LeasePoolTest, WhatIsTakenBeyondTheBudgetIsRefusedWithTheNumbers) {
  LeasePool pool = ExactPool(/*budget=*/100);
  EXPECT_OK(pool.CheckRoom(100));
  LeasePool::Lease lease = Take(pool, 64);
  EXPECT_OK(pool.CheckRoom(36));
  const absl::Status refused = pool.CheckRoom(37);
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(refused.message(),
              testing::AllOf(testing::HasSubstr("37 bytes"),
                             testing::HasSubstr("the 64"),
                             testing::HasSubstr("gather_budget_bytes, 100")));
  pool.Give(std::move(lease));
  EXPECT_OK(pool.CheckRoom(100)) << "what is kept can be dropped";
}

TEST_F(LeasePoolTest, TakenAndKeptBuffersStayWithinTheBudget) {
  LeasePool pool = ExactPool(/*budget=*/256);
  LeasePool::Lease a = Take(pool, 64), b = Take(pool, 96);
  pool.Give(std::move(a));
  pool.Give(std::move(b));
  EXPECT_EQ(allocated(), 160);
  const LeasePool::Lease c = Take(pool, 128);  // The 64, unused longest, go.
  EXPECT_EQ(allocated(), 96 + 128);
  const LeasePool::Lease d = Take(pool, 96);
  EXPECT_EQ(allocated(), 96 + 128) << "the 96 were kept";
}

TEST_F(LeasePoolTest, ABufferIsDroppedOnlyWhenItIsNoLongerWrittenOrRead) {
  for (int which : {0, 1}) {
    HeldStream stream(*device_);
    LeasePool pool = ExactPool(/*budget=*/64);
    LeasePool::Lease lease = Take(pool, 64);
    lease.ready[which] = stream.Record();
    pool.Give(std::move(lease));
    std::atomic<bool> freed{false};
    std::thread other([&] {
      absl::SleepFor(absl::Milliseconds(50));
      freed = true;
      stream.Free();
    });
    EXPECT_EQ(Take(pool, 48).bytes, 48);
    EXPECT_TRUE(freed) << "ready[" << which << "]";
    other.join();
  }
}

TEST_F(LeasePoolTest, AStreamThatIsNeverDoneIsWaitedForAsLongAsPatienceLasts) {
  HeldStream stream(*device_);
  LeasePool pool = ExactPool(/*budget=*/64, absl::Milliseconds(20));
  LeasePool::Lease lease = Take(pool, 64);
  lease.ready[0] = stream.Record();
  pool.Give(std::move(lease));
  EXPECT_TRUE(absl::IsDeadlineExceeded(pool.Take(48).status()));
}

TEST_F(LeasePoolTest, AnIdleBufferIsDroppedBeforeOneThatMustBeWaitedFor) {
  HeldStream stream(*device_);
  LeasePool pool = ExactPool(/*budget=*/128);
  LeasePool::Lease busy = Take(pool, 64), idle = Take(pool, 64);
  const void* const stays = busy.buffer.get();
  busy.ready[1] = stream.Record();
  pool.Give(std::move(busy));
  pool.Give(std::move(idle));
  const LeasePool::Lease other = Take(pool, 48);  // Would block on `busy`.
  EXPECT_EQ(allocated(), 64 + 48);
  EXPECT_EQ(Take(pool, 64).buffer.get(), stays);
}

TEST_F(LeasePoolTest, ALeaseHasABufferOfTheSmallestClassThatHoldsIt) {
  LeasePool pool = Pool(0, {{64, 1}, {256, 1}});
  EXPECT_EQ(Take(pool, 1).bytes, 64);
  EXPECT_EQ(Take(pool, 64).bytes, 64);
  EXPECT_EQ(Take(pool, 65).bytes, 256);
}

TEST_F(LeasePoolTest, WithoutRoomALargerFreeBufferIsTaken) {
  LeasePool pool = Pool(/*budget=*/400, {{64, 1}, {128, 1}, {256, 1}});
  LeasePool::Lease large = Take(pool, 256), middle = Take(pool, 128);
  const void* const buffer = middle.buffer.get();
  pool.Give(std::move(large));
  pool.Give(std::move(middle));
  EXPECT_EQ(Take(pool, 64).buffer.get(), buffer) << "the smallest that holds";
  EXPECT_EQ(allocated(), 256) << "the middle one went with its lease";
}

TEST_F(LeasePoolTest, WithRoomNoLargerBufferIsTaken) {
  LeasePool pool = Pool(/*budget=*/320, {{64, 1}, {256, 1}});
  pool.Give(Take(pool, 256));
  const LeasePool::Lease small = Take(pool, 64);
  EXPECT_EQ(small.bytes, 64);
  EXPECT_EQ(allocated(), 64 + 256);
}

TEST_F(LeasePoolTest, IdleBuffersOfOtherClassesMakeRoomButNoneInFlight) {
  HeldStream stream(*device_);
  LeasePool pool = Pool(/*budget=*/256, {{64, 2}, {256, 1}});
  LeasePool::Lease flies = Take(pool, 64), idle = Take(pool, 64);
  flies.ready[0] = stream.Record();
  flies.exchanged = flies.ready[0];
  const Event passed = flies.exchanged;
  pool.Give(std::move(flies));
  pool.Give(std::move(idle));
  EXPECT_TRUE(absl::IsResourceExhausted(pool.Take(256).status()));
  EXPECT_EQ(allocated(), 2 * 64) << "what makes no room is kept";
  stream.Free();
  ASSERT_OK(device_->Synchronize(passed, absl::Now() + absl::Seconds(20)));
  EXPECT_EQ(Take(pool, 256).bytes, 256);
  EXPECT_EQ(allocated(), 0);
}

TEST_F(LeasePoolTest, WhatDoesNotFitIsRefusedWithTheNumbersAndTheCure) {
  HeldStream stream(*device_);
  LeasePool pool = Pool(/*budget=*/300, {{64, 2}, {128, 1}});
  const LeasePool::Lease a = Take(pool, 64), b = Take(pool, 64);
  LeasePool::Lease flies = Take(pool, 50);
  flies.ready[0] = stream.Record();
  pool.Give(std::move(flies));
  const absl::Status refused = pool.Take(100).status();
  EXPECT_TRUE(absl::IsResourceExhausted(refused));
  EXPECT_THAT(refused.message(),
              testing::AllOf(
                  testing::HasSubstr("an exchange buffer of 128 bytes"),
                  testing::HasSubstr("beside 128 bytes in 2 taken"),
                  testing::HasSubstr("64 bytes in free ones"),
                  testing::HasSubstr("of 300 bytes (buffer_budget_bytes"),
                  testing::HasSubstr("reverse order of parameters"),
                  testing::HasSubstr("buffer_budget_bytes to at least 320")));
}

TEST_F(LeasePoolTest, ABudgetThatMayBeExceededIsToldOfOnceAndOnlyWhereItIs) {
  std::vector<int64_t> held;
  LeasePool::Limits limits;
  limits.budget = 128;
  limits.classes = {{64, 2}};
  limits.patience = absl::ZeroDuration();
  limits.exceeded = [&](int64_t bytes) { held.push_back(bytes); };
  LeasePool pool(*device_, limits);
  const LeasePool::Lease a = Take(pool, 64);
  LeasePool::Lease b = Take(pool, 64);
  pool.Give(std::move(b));
  const LeasePool::Lease again = Take(pool, 64);
  EXPECT_THAT(held, testing::IsEmpty());
  EXPECT_EQ(Take(pool, 64).bytes, 64);
  EXPECT_EQ(Take(pool, 64).bytes, 64);
  EXPECT_THAT(held, testing::ElementsAre(192));
}

TEST_F(LeasePoolTest, HasCountsNothingThatMustBeDropped) {
  LeasePool pool = Pool(/*budget=*/128, {{64, 1}, {128, 1}});
  EXPECT_TRUE(pool.Has(64));
  LeasePool::Lease lease = Take(pool, 64);
  EXPECT_FALSE(pool.Has(128));
  pool.Give(std::move(lease));
  EXPECT_TRUE(pool.Has(64));
  EXPECT_FALSE(pool.Has(128)) << "the free one would have to go";
  EXPECT_EQ(Take(pool, 128).bytes, 128);
}

TEST_F(LeasePoolTest, BeyondItsCountAClassLeavesTheOthersTheirRoom) {
  LeasePool pool = Pool(/*budget=*/256, {{64, 1}, {128, 1}});
  LeasePool::Lease first = Take(pool, 64);
  EXPECT_TRUE(pool.Has(64));
  LeasePool::Lease second = Take(pool, 64);
  EXPECT_FALSE(pool.Has(64));
  EXPECT_TRUE(pool.Has(128));
  const LeasePool::Lease large = Take(pool, 128);
  EXPECT_EQ(allocated(), 256);
}

TEST_F(LeasePoolTest, WhatNothingElseServesTakesTheRoomOfOtherClasses) {
  LeasePool pool = Pool(/*budget=*/128, {{32, 1}, {64, 1}});
  const LeasePool::Lease first = Take(pool, 32), second = Take(pool, 32);
  EXPECT_FALSE(pool.Has(32));
  EXPECT_EQ(Take(pool, 32).bytes, 32);
}

TEST_F(LeasePoolTest, WithoutOverlapWhatWaitsForItsThreadIsBeyondTheBudget) {
  HeldStream exchange(*device_);
  LeasePool pool = Pool(/*budget=*/64, {{64, 1}}, /*overlaps=*/false);
  LeasePool::Lease lease = Take(pool, 64);
  lease.exchanged = exchange.Record();
  pool.Give(std::move(lease));
  const LeasePool::Lease second = Take(pool, 64);
  EXPECT_EQ(allocated(), 2 * 64);
  EXPECT_TRUE(absl::IsResourceExhausted(pool.Take(64).status()))
      << "what is taken counts";
}

}  // namespace
}  // namespace zeromini
