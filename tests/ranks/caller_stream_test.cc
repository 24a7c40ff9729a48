// Streams of the caller's that are behind: an optimizer may be closed and gone
// before they come to what they were given.

#include <condition_variable>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"
#include "support/watched_communicator.h"

namespace zeromini {
namespace {

// A stream that stands still until it is let go.
class HeldStream {
 public:
  HeldStream() : stream_(HostStream::Create("held")) {
    stream_->Enqueue([this] {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return let_go_; });
      return absl::OkStatus();
    });
  }
  Stream handle() const { return stream_->handle(); }
  absl::Status LetGoAndWait() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      let_go_ = true;
      changed_.notify_all();
    }
    return stream_->Record()->Wait(absl::InfiniteFuture());
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool let_go_ = false;
  std::unique_ptr<HostStream> stream_;
};

absl::StatusOr<std::unique_ptr<Optimizer>> MakeBurying(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group, const std::shared_ptr<Graveyard>& graveyard) {
  OptimizerParts parts;
  parts.device = std::make_unique<BuryingDevice>(group.timeout(), graveyard);
  return CreateOptimizer(options, specs, group, std::move(parts));
}

// Two matrices in one bucket, so that one gradient alone sends nothing.
std::vector<ParamSpec> OneBucket() {
  return {Spec("a", {8, 16}, BlockRule::Rows(), 0),
          Spec("b", {8, 16}, BlockRule::Rows(), 0)};
}

void ExpectNoUseAfterTheEnd(const OptimizerOptions& options, bool close,
                            bool at_home) {
  RunRanks(2, [&](int, Communicator& group) {
    const auto graveyard = std::make_shared<Graveyard>();
    Replica replica(OneBucket());
    std::vector<float> gradient(8 * 16, 1.0f);
    HeldStream held;
    {
      ASSERT_OK_AND_ASSIGN(auto optimizer, MakeBurying(options, replica.specs(),
                                                       group, graveyard));
      // Twice, so that the second is added to the first.
      for (int micro = 0; micro < options.micro_steps; ++micro) {
        ASSERT_OK(optimizer->GradReady(0, at_home ? nullptr : gradient.data(),
                                       held.handle()));
      }
      if (close) {
        ASSERT_OK(optimizer->Close());
      }
    }
    EXPECT_OK(held.LetGoAndWait());
    EXPECT_GT(graveyard->graves(), 0u);
    EXPECT_EQ(graveyard->Disturbed(), 0);
  });
}

TEST(CallerStreamTest, AGradientGivenOnItNeedsNoOptimizerLater) {
  for (bool close : {true, false}) {
    for (int stage : {1, 2}) {
      for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
        OptimizerOptions options = ExactOptions();
        options.stage = stage;
        options.memory = memory;
        options.micro_steps = stage == 1 ? 2 : 1;
        SCOPED_TRACE(testing::Message()
                     << "stage " << stage << ", close " << close);
        ExpectNoUseAfterTheEnd(options, close, /*at_home=*/false);
        if (stage != 1 || memory != MemoryForm::kFlat) continue;
        options.micro_steps = 1;
        ExpectNoUseAfterTheEnd(options, close, /*at_home=*/true);
      }
    }
  }
}

// The stream is so late that the optimizer goes without it.
TEST(CallerStreamTest,
     AnExchangeThatWaitsForItRunsNeverOnceTheOptimizerIsGone) {
  for (bool close : {true, false}) {
    for (int stage : {1, 2}) {
      OptimizerOptions options = ExactOptions();
      options.stage = stage;
      RunRanks(2, [&](int, Communicator& group) {
        TimedCommunicator timed(group);
        const auto graveyard = std::make_shared<Graveyard>();
        Replica replica(OneBucket());
        const std::vector<float> gradient(8 * 16, 1.0f);
        HeldStream held;
        {
          ASSERT_OK_AND_ASSIGN(
              auto optimizer,
              MakeBurying(options, replica.specs(), timed, graveyard));
          for (int p : {0, 1}) {
            ASSERT_OK(optimizer->GradReady(p, gradient.data(), held.handle()));
          }
          timed.set_timeout(absl::Milliseconds(5));
          if (close) {
            EXPECT_FALSE(optimizer->Close().ok());
          }
        }
        EXPECT_OK(held.LetGoAndWait());
        group.Finish(absl::InfiniteFuture()).IgnoreError();
        EXPECT_GT(graveyard->graves(), 0u);
        EXPECT_EQ(graveyard->Disturbed(), 0);
        EXPECT_FALSE(group.Barrier().ok()) << "peers would wait";
      });
    }
  }
}

// Two gradients of one parameter on two streams: the second is added to the
// first, not to what was there before it.
TEST(CallerStreamTest, AGradientOnAnotherStreamIsAddedAfterTheFirst) {
  OptimizerOptions options = ExactOptions();
  options.micro_steps = 2;
  RunRanks(2, [&](int, Communicator& group) {
    Replica late(OneBucket());
    Replica prompt(OneBucket());
    const std::vector<float> first(8 * 16, 0.25f);
    const std::vector<float> second(8 * 16, -0.75f);
    ASSERT_OK_AND_ASSIGN(auto expected,
                         Optimizer::Create(options, prompt.specs(), group));
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         Optimizer::Create(options, late.specs(), group));
    HeldStream held;
    const auto other = HostStream::Create("other");
    for (int p : {0, 1}) {
      ASSERT_OK(expected->GradReady(p, first.data()));
      ASSERT_OK(expected->GradReady(p, second.data()));
      ASSERT_OK(optimizer->GradReady(p, first.data(), held.handle()));
      ASSERT_OK(optimizer->GradReady(p, second.data(), other->handle()));
    }
    // If it does not wait, it is done by then.
    other->Record()->Wait(absl::Now() + absl::Milliseconds(50)).IgnoreError();
    ASSERT_OK(held.LetGoAndWait());
    ASSERT_OK(expected->Step({0.01}));
    ASSERT_OK(optimizer->Step({0.01}));
    for (int p : {0, 1}) {
      EXPECT_EQ(FromBytes(late.Data(p), 8 * 16, DType::kFloat32),
                FromBytes(prompt.Data(p), 8 * 16, DType::kFloat32));
    }
  });
}

// As a kernel would that was queued before the release.
TEST(CallerStreamTest, ReleasedWeightsLiveUntilItHasReadThem) {
  OptimizerOptions options = ExactOptions();
  options.stage = 3;
  options.memory = MemoryForm::kFlat;
  for (bool columns : {false, true}) {
    RunRanks(2, [&](int, Communicator& group) {
      const auto graveyard = std::make_shared<Graveyard>();
      std::vector<ParamSpec> specs = OneBucket();
      for (ParamSpec& spec : specs) spec.output_is_last = columns;
      Replica replica(specs);
      HeldStream held;
      float read = 0;
      {
        ASSERT_OK_AND_ASSIGN(
            auto optimizer,
            MakeBurying(options, replica.specs(), group, graveyard));
        const std::vector<float> ones(8 * 16, 1.0f);
        for (int p : {0, 1}) ASSERT_OK(optimizer->SetParam(p, ones.data()));
        ASSERT_OK(optimizer->Gather(0));
        ASSERT_OK(optimizer->WaitParam(0, held.handle()));
        const auto* weights =
            static_cast<const float*>(optimizer->ParamData(0));
        HostStream::From(held.handle())->Enqueue([weights, &read] {
          for (int i = 0; i < 8 * 16; ++i) read += weights[i];
          return absl::OkStatus();
        });
        ASSERT_OK(optimizer->Release(0, held.handle()));
        ASSERT_OK(optimizer->Close());
      }
      EXPECT_OK(held.LetGoAndWait());
      EXPECT_EQ(read, 8 * 16);
    });
  }
}

TEST(CallerStreamTest, AStreamOfAnotherDeviceIsRefusedAndNothingIsCounted) {
  auto self = Self();
  Replica replica(OneBucket());
  ASSERT_OK_AND_ASSIGN(
      auto optimizer,
      Optimizer::Create(ExactOptions(), replica.specs(), *self));
  std::vector<float> gradient(8 * 16, 1.0f);
  int elsewhere = 0;
  const Stream other = {&elsewhere, DeviceKind::kCuda};
  const auto refused =
      StatusIs(absl::StatusCode::kInvalidArgument,
               testing::HasSubstr("the optimizer's device is"));
  EXPECT_THAT(optimizer->GradReady(0, gradient.data(), other), refused);
  EXPECT_THAT(optimizer->WaitParam(0, other), refused);
  for (int p : {0, 1}) ASSERT_OK(optimizer->GradReady(p, gradient.data()));
  EXPECT_OK(optimizer->Step({0.01}));
}

}  // namespace
}  // namespace zeromini
