// Streams that are late: what returns from a wait, or changes weights, has
// waited for all of them.

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/delayed_stream.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"
#include "support/watched_communicator.h"

namespace zeromini {
namespace {

constexpr std::chrono::microseconds kLongest(10000);

absl::StatusOr<std::unique_ptr<Optimizer>> MakeLate(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  OptimizerParts parts;
  parts.device = MakeHostDevice(
      CpuKernels(), group.timeout(),
      std::make_unique<DelayedStream>(11 + group.rank(), kLongest));
  return CreateOptimizer(options, specs, group, std::move(parts));
}

// Two layers of two matrices, two of one. Columns do not fit in place.
TrainingCase Layers(bool columns) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = 3;
  c.options.memory = MemoryForm::kFlat;
  c.ranks = 2;
  c.specs.clear();
  for (int p = 0; p < 6; ++p) {
    c.specs.push_back(Spec("w" + std::to_string(p), {16, 32}, BlockRule::Rows(),
                           p < 4 ? p / 2 : p - 2));
    c.specs.back().output_is_last = columns;
  }
  c.group.make_stream = DelayedStream::Factory(5, kLongest);
  return c;
}

void OnLateOptimizers(
    const TrainingCase& c,
    const std::function<void(Optimizer&, Replica&, int rank)>& body) {
  RunRanks(
      c.ranks,
      [&](int rank, Communicator& group) {
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeLate(c.options, replica.specs(), group));
        ASSERT_OK(FillWeights(c, replica, *optimizer));
        body(*optimizer, replica, rank);
      },
      c.group);
}

void ExpectInitial(const TrainingCase& c, Optimizer& optimizer,
                   Replica& replica, int p) {
  ASSERT_NE(optimizer.ParamData(p), nullptr);
  EXPECT_EQ(
      FromBytes(optimizer.ParamData(p), Elements(c.specs[p]), DType::kFloat32),
      FromBytes(replica.Data(p), Elements(c.specs[p]), DType::kFloat32))
      << c.specs[p].name;
}

TEST(LateStreamsTest, WaitAllWaitsForEveryGatherAndPrefetch) {
  for (bool columns : {false, true}) {
    TrainingCase c = Layers(columns);
    c.options.prefetch = 1;
    OnLateOptimizers(c, [&](Optimizer& optimizer, Replica& replica, int) {
      ASSERT_OK(optimizer.Gather(0));
      ASSERT_OK(optimizer.Gather(2, GatherPass::kForward));
      ASSERT_OK(optimizer.WaitAll());
      for (int p : {0, 1, 4, 5}) ExpectInitial(c, optimizer, replica, p);
    });
  }
}

// What is given back while its gather is on its way is not written twice.
TEST(LateStreamsTest, AGatherThatNobodyWaitedForSpoilsNoLaterOne) {
  for (uint32_t seed = 1; seed <= 20; ++seed) {
    TrainingCase c = Layers(/*columns=*/true);
    c.group.make_stream =
        DelayedStream::Factory(seed, std::chrono::microseconds(1000));
    OnLateOptimizers(c, [&](Optimizer& optimizer, Replica& replica, int) {
      const auto reader = HostStream::Create("reader");
      ASSERT_OK(optimizer.Gather(0));
      ASSERT_OK(optimizer.Release(0, reader->handle()));
      ASSERT_OK(optimizer.Gather(2));
      ASSERT_OK(optimizer.WaitParam(4));
      ExpectInitial(c, optimizer, replica, 4);
    });
  }
}

// Has room for one buffer of gathered weights.
class OneGatherDevice : public BuryingDevice {
 public:
  using BuryingDevice::BuryingDevice;

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    if (kind == MemoryKind::kGathered && gathers_++ > 0) {
      return absl::ResourceExhaustedError("the device is full");
    }
    return BuryingDevice::Allocate(bytes, kind);
  }

 private:
  int gathers_ = 0;
};

// Large enough that the exchange is under way when memory runs out.
TEST(LateStreamsTest, AGatherThatFailsFreesNothingThatIsStillWritten) {
  TrainingCase c = Layers(/*columns=*/true);
  for (ParamSpec& spec : c.specs) spec.shape = {512, 2048};
  c.group = GroupOptions();
  for (int time = 0; time < 20; ++time) {
    RunRanks(c.ranks, [&](int rank, Communicator& group) {
      Replica replica(c.specs);
      const auto graveyard = std::make_shared<Graveyard>();
      OptimizerParts parts;
      if (rank == 1) {
        parts.device =
            std::make_unique<OneGatherDevice>(group.timeout(), graveyard);
      }
      ASSERT_OK_AND_ASSIGN(
          auto optimizer,
          CreateOptimizer(c.options, replica.specs(), group, std::move(parts)));
      absl::Status gathered = optimizer->Gather(0);
      gathered.Update(optimizer->WaitAll());
      EXPECT_TRUE(rank == 0 || !gathered.ok());
      optimizer = nullptr;
      EXPECT_EQ(graveyard->Disturbed(), 0);
    });
  }
}

// What follows a step that did not wait sees its weights, not older ones.
TEST(LateStreamsTest, ChangesOfWeightsComeAfterTheStepBeforeThem) {
  for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
    TrainingCase c;
    c.options = ExactOptions();
    c.options.memory = memory;
    c.ranks = 2;
    c.steps = 1;
    const TrainingResult expected = Train(c);
    OnLateOptimizers(c, [&](Optimizer& optimizer, Replica& replica, int rank) {
      ASSERT_OK(GiveGradients(c, optimizer, 1, rank));
      StepOptions options;
      options.learning_rate = c.learning_rate;
      options.wait = false;
      ASSERT_OK(optimizer.Step(options));
      ASSERT_OK(optimizer.BroadcastParams());
      for (int p = 0; p < 25; ++p) {
        ASSERT_OK_AND_ASSIGN(const auto weights,
                             ReadWeights(c, p, replica, optimizer));
        EXPECT_EQ(weights, expected.weights[p]) << c.specs[p].name;
      }
    });
  }
}

// Spends all of its first wait's time, as a process does that is suspended in
// it, and keeps the least that any wait had left.
class SuspendedDevice : public DeviceWrapper {
 public:
  using DeviceWrapper::DeviceWrapper;

  absl::Status Synchronize(const Event& event, absl::Time deadline) override {
    least_ = std::min(least_, deadline - absl::Now());
    ++waits_;
    if (!std::exchange(suspend_, false)) {
      return DeviceWrapper::Synchronize(event, deadline);
    }
    while (absl::Now() <= deadline) absl::SleepFor(absl::Milliseconds(10));
    return DeviceWrapper::Synchronize(event, absl::InfiniteFuture());
  }

  void SuspendNextWait() {
    suspend_ = true;
    waits_ = 0;
    least_ = absl::InfiniteDuration();
  }
  int waits() const { return waits_; }
  absl::Duration least() const { return least_; }

 private:
  bool suspend_ = false;
  int waits_ = 0;
  absl::Duration least_ = absl::InfiniteDuration();
};

TEST(LateStreamsTest, ASuspensionInOneWaitTakesNoTimeFromTheNext) {
  auto self = Self();
  TimedCommunicator timed(*self);
  Replica replica(EveryKindOfParam());
  auto owned = std::make_unique<SuspendedDevice>(timed.timeout());
  SuspendedDevice& device = *owned;
  OptimizerParts parts;
  parts.device = std::move(owned);
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       CreateOptimizer(ExactOptions(), replica.specs(), timed,
                                       std::move(parts)));
  timed.set_timeout(absl::Milliseconds(2));
  device.SuspendNextWait();
  ASSERT_OK(optimizer->WaitAll());
  EXPECT_GE(device.waits(), 2);
  EXPECT_GT(device.least(), absl::ZeroDuration());
  device.SuspendNextWait();
  ASSERT_OK(optimizer->Close());
  EXPECT_GE(device.waits(), 2);
  EXPECT_GT(device.least(), absl::ZeroDuration());
}

}  // namespace
}  // namespace zeromini
