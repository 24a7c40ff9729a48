// What fails on one rank alone: every rank learns it from that rank, at once,
// and nobody waits for the deadline to blame another.

#include <algorithm>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/device_parts.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kExhausted = absl::StatusCode::kResourceExhausted;
constexpr absl::Duration kDeadline = absl::Seconds(80);

TrainingCase Ranks(int ranks, int stage) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = stage;
  c.options.memory = stage == 3 ? MemoryForm::kFlat : MemoryForm::kExternal;
  c.ranks = ranks;
  c.group.timeout = kDeadline;
  return c;
}

// Runs `body` on all ranks; rank 1 has no more room once it sets `full`.
using Body = std::function<void(Optimizer&, int rank, std::atomic<bool>& full)>;
void WithoutRoomOnRankOne(const TrainingCase& c, const Body& body) {
  const absl::Time begin = absl::Now();
  RunRanks(
      c.ranks,
      [&](int rank, Communicator& group) {
        auto full = std::make_shared<std::atomic<bool>>(false);
        OptimizerParts parts;
        parts.device = std::make_unique<SmallDevice>(group.timeout(), full);
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizerOf(c.options, replica.specs(), group,
                                             std::move(parts)));
        ASSERT_OK(FillWeights(c, replica, *optimizer));
        body(*optimizer, rank, *full);
      },
      c.group);
  EXPECT_LT(absl::Now() - begin, kDeadline / 2);
}

// Rank 1 says it in its own words, the others in rank 1's.
auto SaysWhy(int rank) {
  return StatusIs(kExhausted, AllOf(HasSubstr("the device is full"),
                                    HasSubstr(rank == 1 ? "" : "rank 1: ")));
}

// However the optimizer is used after it broke.
void ExpectEveryCallSaysWhy(Optimizer& optimizer, int rank) {
  const std::vector<float> data(200, 1.0f);
  EXPECT_THAT(optimizer.Step({0.01}), SaysWhy(rank));
  EXPECT_THAT(optimizer.SetParam(1, data.data()), SaysWhy(rank));
  EXPECT_THAT(optimizer.BroadcastParams(), SaysWhy(rank));
  EXPECT_THAT(optimizer.ConsolidatedState(1), SaysWhy(rank));
  EXPECT_THAT(optimizer.WaitAll(), SaysWhy(rank));
  EXPECT_THAT(optimizer.WaitParam(1), SaysWhy(rank));
  EXPECT_THAT(optimizer.GradReady(1, data.data()), SaysWhy(rank));
}

TEST(LocalFailureTest, NoRoomForAGradientIsEveryRanksErrorAtOnce) {
  for (int ranks : {2, 3}) {
    for (int stage : {1, 2}) {
      const TrainingCase c = Ranks(ranks, stage);
      WithoutRoomOnRankOne(
          c, [&](Optimizer& optimizer, int rank, std::atomic<bool>& full) {
            full = rank == 1;
            GiveGradients(c, optimizer, 1, rank).IgnoreError();
            EXPECT_THAT(optimizer.Step({0.01}), SaysWhy(rank));
            ExpectEveryCallSaysWhy(optimizer, rank);
          });
    }
  }
}

TEST(LocalFailureTest, NoRoomForAGatherIsEveryRanksErrorAtOnce) {
  const TrainingCase c = Ranks(2, 3);
  WithoutRoomOnRankOne(
      c, [&](Optimizer& optimizer, int rank, std::atomic<bool>& full) {
        full = rank == 1;
        absl::Status status = optimizer.Gather(0);
        status.Update(optimizer.WaitParam(1));
        EXPECT_THAT(status, SaysWhy(rank));
        ExpectEveryCallSaysWhy(optimizer, rank);
      });
}

// Has room for `left` more buffers of gathered weights.
class HalfFullDevice : public DeviceWrapper {
 public:
  HalfFullDevice(absl::Duration timeout, int left)
      : DeviceWrapper(timeout), left_(left) {}

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    if (kind == MemoryKind::kGathered && left_-- == 0) {
      return absl::ResourceExhaustedError("the device is full");
    }
    return DeviceWrapper::Allocate(bytes, kind);
  }

 private:
  int left_;
};

TEST(LocalFailureTest, NoRoomHalfwayThroughAGatherIsEveryRanksErrorToo) {
  const TrainingCase c = Ranks(2, 3);
  constexpr int kNone = -1;
  for (int left : {kNone, 1, 2}) {
    RunRanks(
        c.ranks,
        [&](int rank, Communicator& group) {
          OptimizerParts parts;
          parts.device = std::make_unique<HalfFullDevice>(
              group.timeout(), rank == 1 ? left : kNone);
          Replica replica(c.specs);
          ASSERT_OK_AND_ASSIGN(
              auto optimizer, MakeOptimizerOf(c.options, replica.specs(), group,
                                              std::move(parts)));
          ASSERT_OK(FillWeights(c, replica, *optimizer));
          absl::Status status = optimizer->Gather(0);
          status.Update(optimizer->WaitParam(1));
          if (left == kNone) {
            const std::vector<RegionPlan>& regions = optimizer->plan().regions;
            EXPECT_GT(std::count_if(regions.begin(), regions.end(),
                                    [](const RegionPlan& region) {
                                      return region.layer_set == 0;
                                    }),
                      2);
            EXPECT_OK(status);
            return;
          }
          EXPECT_THAT(status, SaysWhy(rank)) << left;
          ExpectEveryCallSaysWhy(*optimizer, rank);
        },
        c.group);
  }
}

TEST(LocalFailureTest, NoRoomInAStepIsEveryRanksErrorAtOnce) {
  TrainingCase c = Ranks(2, 1);
  c.options.micro_steps = 2;  // Buffers of the pool are for weights only.
  WithoutRoomOnRankOne(
      c, [&](Optimizer& optimizer, int rank, std::atomic<bool>& full) {
        ASSERT_OK(GiveGradients(c, optimizer, 1, rank));
        full = rank == 1;
        EXPECT_THAT(optimizer.Step({0.01}), SaysWhy(rank));
        ExpectEveryCallSaysWhy(optimizer, rank);
      });
}

// Has room for `left` more buffers of any kind.
class NearlyFullDevice : public DeviceWrapper {
 public:
  NearlyFullDevice(absl::Duration timeout, int left)
      : DeviceWrapper(timeout), left_(left) {}

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    if (left_-- == 0) return absl::ResourceExhaustedError("the device is full");
    return DeviceWrapper::Allocate(bytes, kind);
  }

 private:
  int left_;
};

// Whichever buffer it is, those of column averages among them.
TEST(LocalFailureTest, NoRoomForAnyBufferOfCreationIsEveryRanksErrorAtOnce) {
  for (int stage : {1, 3}) {
    const TrainingCase c = Ranks(3, stage);
    const absl::Time begin = absl::Now();
    bool made = false;
    int left = 0;
    for (; !made && left < 1000; ++left) {
      std::vector<absl::Status> statuses(c.ranks);
      RunRanks(
          c.ranks,
          [&](int rank, Communicator& group) {
            OptimizerParts parts;
            if (rank == 1) {
              parts.device =
                  std::make_unique<NearlyFullDevice>(group.timeout(), left);
            }
            Replica replica(c.specs);
            statuses[rank] = MakeOptimizerOf(c.options, replica.specs(), group,
                                             std::move(parts))
                                 .status();
          },
          c.group);
      made = statuses[1].ok();
      for (int rank = 0; rank < c.ranks; ++rank) {
        if (made) {
          EXPECT_OK(statuses[rank]) << left;
        } else {
          EXPECT_THAT(statuses[rank],
                      StatusIs(kExhausted, HasSubstr("the device is full")))
              << left << " on rank " << rank;
        }
      }
    }
    EXPECT_GT(left, 20);
    EXPECT_TRUE(made);
    EXPECT_LT(absl::Now() - begin, kDeadline / 2);
  }
}

// Nothing has been sent then, so training goes on once there is room.
TEST(LocalFailureTest, NoRoomForAWholeTensorIsRefusedByAllAndBreaksNothing) {
  for (int stage : {1, 2, 3}) {
    const TrainingCase c = Ranks(3, stage);
    WithoutRoomOnRankOne(
        c, [&](Optimizer& optimizer, int rank, std::atomic<bool>& full) {
          ASSERT_OK(GiveGradients(c, optimizer, 1, rank));
          ASSERT_OK(optimizer.Step({0.01}));
          const auto refused =
              StatusIs(kExhausted, HasSubstr("rank 1: the device is full"));
          const std::vector<float> data(200, 1.0f);
          full = rank == 1;
          EXPECT_THAT(optimizer.ConsolidatedState(1), refused);
          if (stage == 3) {
            EXPECT_THAT(optimizer.SetParam(1, data.data()), refused);
          }
          full = false;
          ASSERT_OK(optimizer.ConsolidatedState(1));
          ASSERT_OK(optimizer.SetParam(1, data.data()));
          ASSERT_OK(GiveGradients(c, optimizer, 2, rank));
          ASSERT_OK(optimizer.Step({0.01}));
          ASSERT_OK(optimizer.Close());
        });
  }
}

}  // namespace
}  // namespace zeromini
