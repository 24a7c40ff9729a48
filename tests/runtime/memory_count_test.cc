// Memory() is what the allocator gave, to the byte.

#include <array>
#include <atomic>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

// Adds up what passes through to another device, by kind.
class CountingDevice : public DeviceWrapper {
 public:
  using Counts = std::array<std::atomic<int64_t>, 10>;

  CountingDevice() : DeviceWrapper(absl::Seconds(30)) {}

  int64_t bytes(MemoryKind kind) const { return (*counts_)[int(kind)]; }

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    return Count(DeviceWrapper::Allocate(bytes, kind), bytes, kind);
  }
  absl::StatusOr<Buffer> AllocateHost(int64_t bytes) override {
    return Count(DeviceWrapper::AllocateHost(bytes), bytes,
                 MemoryKind::kTables);
  }

 private:
  absl::StatusOr<Buffer> Count(absl::StatusOr<Buffer> buffer, int64_t bytes,
                               MemoryKind kind) {
    if (!buffer.ok() || *buffer == nullptr) return buffer;
    (*counts_)[int(kind)] += bytes;
    Buffer inner = *std::move(buffer);
    void* memory = inner.get();
    return Buffer(memory, [inner = std::move(inner), counts = counts_, bytes,
                           kind](void*) mutable {
      (*counts)[int(kind)] -= bytes;
      inner.reset();
    });
  }

  const std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

TEST(MemoryCountTest, TheReportIsWhatTheAllocatorGaveToTheByte) {
  for (int stage : {1, 2, 3}) {
    for (StateFormat state : {StateFormat::kFloat32, StateFormat::kInt8}) {
      TrainingCase c;
      c.options = ExactOptions();
      c.options.stage = stage;
      c.options.memory = MemoryForm::kFlat;
      c.options.master = MasterFormat::kRemainder16;
      c.options.state = state;
      for (ParamSpec& spec : c.specs) {
        if (spec.shape.size() > 1) spec.dtype = DType::kBFloat16;
      }
      c.coarse = true;
      RunRanks(3, [&](int rank, Communicator& group) {
        Replica replica(c.specs);
        auto owned = std::make_unique<CountingDevice>();
        const CountingDevice& device = *owned;
        OptimizerParts parts;
        parts.device = std::move(owned);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             CreateOptimizer(c.options, replica.specs(), group,
                                             std::move(parts)));
        const auto compare = [&] {
          const MemoryReport report = optimizer->Memory();
          EXPECT_EQ(report.weights, device.bytes(MemoryKind::kWeights));
          EXPECT_EQ(report.gathered, device.bytes(MemoryKind::kGathered));
          EXPECT_EQ(report.gradients, device.bytes(MemoryKind::kGradients));
          EXPECT_EQ(report.momentum, device.bytes(MemoryKind::kMomentum));
          EXPECT_EQ(report.second_moment,
                    device.bytes(MemoryKind::kSecondMoment));
          EXPECT_EQ(report.master, device.bytes(MemoryKind::kMaster));
          EXPECT_EQ(report.statistics, device.bytes(MemoryKind::kStatistics));
          EXPECT_EQ(report.method_state,
                    device.bytes(MemoryKind::kMethodState));
          EXPECT_EQ(report.tables, device.bytes(MemoryKind::kTables));
          EXPECT_EQ(report.buckets, device.bytes(MemoryKind::kBuckets));
          return report;
        };
        EXPECT_GT(compare().master, 0);
        ASSERT_OK(FillWeights(c, replica, *optimizer));
        ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
        ASSERT_OK(optimizer->Step({0.01}));
        const MemoryReport after = compare();
        EXPECT_EQ(after.gathered > 0, stage == 3);
        EXPECT_GE(after.peak, after.total());
      });
    }
  }
}

}  // namespace
}  // namespace zeromini
