// A device whose memory the host cannot read: where the host waits for it, that
// its results are those of the host, and that the fake catches what it is for.

#include "tests/support/fake_device.h"

#include <cstring>
#include <future>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"
#include "tests/support/fake_kernels.h"
#include "tests/support/fake_memory.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;

constexpr absl::StatusCode kInvalid = absl::StatusCode::kInvalidArgument;

// Gradients that a stream of the caller's brings, as a trainer on a GPU has
// them: nothing here waits for a device.
class StreamedRank {
 public:
  StreamedRank(const TrainingCase& c, int rank, Communicator& group,
               bool on_default_stream = false)
      : c_(c), rank_(rank), replica_(c.specs) {
    if (on_default_stream) on_ = {nullptr, DeviceKind::kCuda};
    auto made = MakeOptimizer(c.options, replica_.specs(), group);
    EXPECT_OK(made);
    if (made.ok()) optimizer_ = *std::move(made);
  }

  Optimizer* operator->() { return optimizer_.get(); }

  absl::Status Give(int step) {
    int open = -2;
    for (int p = int(c_.specs.size()) - 1; p >= 0; --p) {
      if (c_.specs[p].frozen) continue;
      const int set = optimizer_->plan().params[p].layer_set;
      if (c_.options.stage == 3) {
        if (open >= -1 && open != set) {
          ZEROMINI_RETURN_IF_ERROR(optimizer_->Release(open, on_));
        }
        open = set;
        ZEROMINI_RETURN_IF_ERROR(
            optimizer_->Gather(set, GatherPass::kBackward));
        ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(p, on_));
      }
      ZEROMINI_RETURN_IF_ERROR(
          optimizer_->GradReady(p, Gradient(p, step), on_));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<StepReport> Step(bool wait) {
    StepOptions options;
    options.learning_rate = c_.learning_rate;
    options.wait = wait;
    return optimizer_->Step(options);
  }

  absl::StatusOr<std::vector<float>> Read(int p) {
    return ReadWeights(c_, p, replica_, *optimizer_);
  }

 private:
  const void* Gradient(int p, int step) {
    std::vector<float> values(Elements(c_.specs[p]));
    for (size_t i = 0; i < values.size(); ++i) {
      values[i] = GradientPart(p, int64_t(i), step, rank_, c_.ranks);
    }
    const std::vector<char> bytes = ToBytes(values, c_.specs[p].dtype);
    gradients_.push_back(TestTensor(int64_t(bytes.size())));
    std::memcpy(gradients_.back().get(), bytes.data(), bytes.size());
    return gradients_.back().get();
  }

  const TrainingCase& c_;
  const int rank_;
  Replica replica_;
  std::vector<std::shared_ptr<void>> gradients_;
  const std::unique_ptr<CallerStream> stream_ = CallerStream::Make();
  Stream on_ = stream_->handle();
  std::unique_ptr<Optimizer> optimizer_;
};

TrainingCase Clipped(int stage, int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = stage;
  c.options.memory = stage == 3 ? MemoryForm::kFlat : MemoryForm::kExternal;
  c.options.max_grad_norm = 0.05;
  c.ranks = ranks;
  return c;
}

TrainingCase OnlySkips(int stage, int ranks) {
  TrainingCase c = Clipped(stage, ranks);
  c.options.absent_gradients = AbsentGradients::kSkip;
  c.options.non_finite = NonFiniteGradients::kSkip;
  return c;
}

// From the first gradient of each step to the return of Step(), by step.
std::vector<int64_t> WaitsOf(const TrainingCase& c, StreamedRank& rank,
                             bool waits_after) {
  std::vector<int64_t> waits;
  for (int step = 1; step <= c.steps; ++step) {
    const int64_t before = HostWaitsSoFar();
    EXPECT_OK(rank.Give(step));
    EXPECT_OK(rank.Step(/*wait=*/false));
    waits.push_back(HostWaitsSoFar() - before);
    if (!waits_after) continue;
    EXPECT_OK(rank->WaitAll());
  }
  return waits;
}

class HostWaitsTest : public testing::TestWithParam<std::tuple<int, int>> {
 protected:
  int stage() const { return std::get<0>(GetParam()); }
  int ranks() const { return std::get<1>(GetParam()); }

 private:
  ScopedTestDevice on_{/*fake=*/true};
};

TEST_P(HostWaitsTest, AStepThatOnlySkipsHasNone) {
  const TrainingCase c = OnlySkips(stage(), ranks());
  RunRanks(ranks(), [&](int r, Communicator& group) {
    StreamedRank rank(c, r, group);
    EXPECT_THAT(WaitsOf(c, rank, /*waits_after=*/true), Each(0));
  });
}

// Which has a null native, as the caller's own thread has.
TEST_P(HostWaitsTest, AStepOnTheDevicesDefaultStreamHasNone) {
  const TrainingCase c = OnlySkips(stage(), ranks());
  RunRanks(ranks(), [&](int r, Communicator& group) {
    StreamedRank rank(c, r, group, /*on_default_stream=*/true);
    EXPECT_THAT(WaitsOf(c, rank, /*waits_after=*/true), Each(0));
  });
}

// So far the host may run ahead of the device.
TEST_P(HostWaitsTest, StepsThatNobodyWaitsForWaitForTheOneTwoBeforeAlone) {
  const TrainingCase c = OnlySkips(stage(), ranks());
  RunRanks(ranks(), [&](int r, Communicator& group) {
    StreamedRank rank(c, r, group);
    EXPECT_THAT(WaitsOf(c, rank, /*waits_after=*/false),
                testing::ElementsAre(0, 0, 1, 1));
    EXPECT_OK(rank->WaitAll());
  });
}

TEST_P(HostWaitsTest, AStepThatReportsErrorsHasOne) {
  const TrainingCase c = Clipped(stage(), ranks());
  RunRanks(ranks(), [&](int r, Communicator& group) {
    StreamedRank rank(c, r, group);
    EXPECT_THAT(WaitsOf(c, rank, /*waits_after=*/false), Each(1));
    EXPECT_OK(rank->WaitAll());
  });
}

TEST_P(HostWaitsTest, WhatNobodyWaitsForIsReportedLaterAndTrainsTheSame) {
  const TrainingCase c = OnlySkips(stage(), ranks());
  const TrainingResult expected = Train(c);
  RunRanks(ranks(), [&](int r, Communicator& group) {
    StreamedRank rank(c, r, group);
    for (int step = 1; step <= c.steps; ++step) {
      ASSERT_OK(rank.Give(step));
      ASSERT_OK_AND_ASSIGN(const StepReport report, rank.Step(false));
      EXPECT_TRUE(report.pending);
    }
    ASSERT_OK(rank->WaitAll());
    const StepReport last = rank->LastReport();
    EXPECT_FALSE(last.pending);
    EXPECT_EQ(last.step, c.steps);
    EXPECT_EQ(last.grad_norm, expected.norms.back());
    for (int p = 0; p < int(c.specs.size()); ++p) {
      ASSERT_OK_AND_ASSIGN(const auto weights, rank.Read(p));
      EXPECT_EQ(weights, expected.weights[p]) << c.specs[p].name;
    }
  });
}

INSTANTIATE_TEST_SUITE_P(All, HostWaitsTest,
                         testing::Combine(testing::Values(1, 2, 3),
                                          testing::Values(1, 2, 3)));

void ExpectTheHostsBits(const TrainingCase& c) {
  const auto train = [&c](bool fake) {
    const ScopedTestDevice on(fake);
    return Train(c);
  };
  const TrainingResult host = train(false);
  const TrainingResult device = train(true);
  ExpectSameTraining(c, device, host);
  EXPECT_EQ(device.norms, host.norms);
}

class FakeBitsTest
    : public testing::TestWithParam<std::tuple<int, MemoryForm, bool>> {
 protected:
  TrainingCase CaseOf() const {
    const auto& [stage, memory, half] = GetParam();
    TrainingCase c = Clipped(stage, 3);
    c.options.memory = memory;
    c.options.state = StateFormat::kInt8;
    c.coarse = true;
    if (!half) return c;
    c.options.master = MasterFormat::kRemainder16;
    for (ParamSpec& spec : c.specs) spec.dtype = DType::kBFloat16;
    return c;
  }
};

TEST_P(FakeBitsTest, AreTheHosts) { ExpectTheHostsBits(CaseOf()); }

TEST_P(FakeBitsTest, OfMicroStepsAreTheHosts) {
  TrainingCase c = CaseOf();
  c.options.micro_steps = 2;
  c.options.max_grad_norm = 0;
  c.options.max_grad_value = 0.01;
  ExpectTheHostsBits(c);
}

TEST_P(FakeBitsTest, OfStepsThatAreSkippedAreTheHosts) {
  TrainingCase c = CaseOf();
  c.options.max_grad_norm = 0;
  c.options.skip_above_grad_norm = 1;
  c.edit = [](int p, int step, int, std::vector<float>* gradient) {
    if (p == 0 && step % 2 == 0) (*gradient)[3] = 100;
    return true;
  };
  ExpectTheHostsBits(c);
}

INSTANTIATE_TEST_SUITE_P(
    All, FakeBitsTest,
    testing::Values(std::tuple(1, MemoryForm::kExternal, false),
                    std::tuple(1, MemoryForm::kExternal, true),
                    std::tuple(1, MemoryForm::kFlat, false),
                    std::tuple(1, MemoryForm::kFlat, true),
                    std::tuple(2, MemoryForm::kExternal, false),
                    std::tuple(2, MemoryForm::kExternal, true),
                    std::tuple(2, MemoryForm::kFlat, false),
                    std::tuple(2, MemoryForm::kFlat, true),
                    std::tuple(3, MemoryForm::kFlat, false),
                    std::tuple(3, MemoryForm::kFlat, true)));

std::unique_ptr<Device> FakeDevice() {
  return MakeFakeDevice(/*reference_kernels=*/false, absl::Seconds(30));
}

TEST(FakeDeviceTest, AKernelThatIsGivenAHostPointerSaysWhichArgumentItIs) {
  const auto device = FakeDevice();
  ASSERT_OK_AND_ASSIGN(const Buffer sum,
                       device->Allocate(64, MemoryKind::kTables));
  std::vector<float> host(16);
  const auto add = [&](Stream on) {
    return device->kernels().accumulate({Floats(sum), host.data(), 16}, on);
  };
  EXPECT_THAT(device->Launch(device->compute(), add),
              StatusIs(kInvalid, AllOf(HasSubstr("kernel accumulate"),
                                       HasSubstr("`addend`"))));
  EXPECT_THAT(device->Launch(Stream{}, add),
              StatusIs(kInvalid, HasSubstr("`addend`")));
}

TEST(FakeDeviceTest, AHostPointerInATableOfTheDeviceIsFoundWhenItIsUsed) {
  const auto device = FakeDevice();
  ASSERT_OK_AND_ASSIGN(const Buffer memory,
                       device->Allocate(4096, MemoryKind::kTables));
  double host = 0;
  const SplitTarget split = {0, &host};
  ASSERT_OK(device->Copy(&split, memory.get(), sizeof(split), Stream{}));
  DecideArgs args = {};
  args.splits = static_cast<const SplitTarget*>(memory.get());
  args.num_splits = 1;
  EXPECT_THAT(device->Launch(Stream{},
                             [&](Stream on) {
                               return device->kernels().decide(args, on);
                             }),
              StatusIs(kInvalid, HasSubstr("`splits[].block_sum`")));
}

TEST(FakeDeviceTest, ACopyInAStreamsOrderTakesNoOrdinaryHostMemory) {
  const auto device = FakeDevice();
  ASSERT_OK_AND_ASSIGN(const Buffer there,
                       device->Allocate(64, MemoryKind::kTables));
  ASSERT_OK_AND_ASSIGN(const Buffer pinned, device->AllocateHost(64));
  char host[64] = {7};
  EXPECT_THAT(device->Copy(host, there.get(), 64, device->compute()),
              StatusIs(kInvalid, HasSubstr("`from`")));
  EXPECT_OK(device->Copy(pinned.get(), there.get(), 64, device->compute()));
  EXPECT_OK(device->Synchronize(device->Record(device->compute()),
                                absl::InfiniteFuture()));
  EXPECT_OK(device->Copy(host, there.get(), 64, Stream{}));
  EXPECT_EQ(*static_cast<char*>(HostView(there.get())), 7);
}

// Copied at once, the values would be those from before the stream came there.
TEST(FakeDeviceTest, ACopyReadsWhenItsStreamGetsThere) {
  const auto device = FakeDevice();
  ASSERT_OK_AND_ASSIGN(const Buffer there,
                       device->Allocate(4, MemoryKind::kTables));
  ASSERT_OK_AND_ASSIGN(const Buffer pinned, device->AllocateHost(4));
  const auto caller = FakeStream::Late();
  caller->queue().Enqueue([&] {
    Floats(pinned)[0] = 3;
    return absl::OkStatus();
  });
  const Event written = device->Record(caller->handle());
  ASSERT_OK(device->WaitFor(device->compute(), written));
  ASSERT_OK(device->Copy(pinned.get(), there.get(), 4, device->compute()));
  ASSERT_OK(device->Synchronize(device->Record(device->compute()),
                                absl::InfiniteFuture()));
  EXPECT_EQ(*static_cast<float*>(HostView(there.get())), 3);
}

TEST(FakeDeviceTest, TheHostCannotReadItsMemory) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  const std::shared_ptr<void> memory = FakeMemory::Get().Allocate(64);
  EXPECT_DEATH(
      {
        volatile const char* at = static_cast<const char*>(memory.get());
        std::exit(*at);
      },
      "");
}

TEST(FakeDeviceTest, WhatIsFreedChangesItsBits) {
  std::shared_ptr<void> memory = FakeMemory::Get().Allocate(64);
  const auto* const bytes = static_cast<const char*>(HostView(memory.get()));
  EXPECT_EQ(*bytes, 0);
  memory.reset();
  EXPECT_NE(*bytes, 0);
}

TEST(FakeDeviceTest, AWriteToWhatIsFreedIsSeen) {
  std::shared_ptr<void> memory = FakeMemory::Get().Allocate(64);
  auto* const bytes = static_cast<char*>(HostView(memory.get()));
  memory.reset();
  const char paint = *bytes;
  *bytes = 1;
  EXPECT_EQ(FakeMemory::Get().Disturbed(), 1);
  *bytes = paint;
  EXPECT_EQ(FakeMemory::Get().Disturbed(), 0);
}

TEST(FakeDeviceTest, AWriteBehindTheEndIsSeenWhenItIsFreed) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(
      {
        std::shared_ptr<void> memory = FakeMemory::Get().Allocate(60);
        static_cast<char*>(HostView(memory.get()))[60] = 0;
        memory.reset();
      },
      "");
}

// The streams get there when optimizer and device are gone.
TEST(FakeDeviceTest, GradientsThatComeAfterTheEndTouchNothingThatIsFreed) {
  const ScopedTestDevice on(/*fake=*/true);
  TrainingCase c = OnlySkips(/*stage=*/1, /*ranks=*/1);
  c.options.micro_steps = 2;
  RunRanks(1, [&](int, Communicator& group) {
    const auto stream = CallerStream::Make();
    std::promise<void> ended;
    stream->queue().Enqueue([end = ended.get_future().share()] {
      end.wait();
      return absl::OkStatus();
    });
    const std::shared_ptr<void> gradient = TestTensor(16 * 8 * 4);
    {
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeOptimizer(c.options, replica.specs(), group));
      for (int micro = 0; micro < 2; ++micro) {
        ASSERT_OK(optimizer->GradReady(1, gradient.get(), stream->handle()));
      }
    }
    ended.set_value();
    ASSERT_OK(stream->queue().Record()->Wait(absl::InfiniteFuture()));
    EXPECT_EQ(FakeMemory::Get().Disturbed(), 0);
  });
}

// The caller's tensors must be the device's, too.
TEST(FakeDeviceTest, TensorsOfTheHostAreRefusedByTheFirstKernelThatSeesThem) {
  const ScopedTestDevice on(/*fake=*/true);
  const auto self = MakeSelf();
  std::vector<ParamSpec> specs = {Spec("weight", {4, 4}, BlockRule::Rows(), 0)};
  std::vector<float> host(16);
  specs[0].data = host.data();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeOptimizer(ExactOptions(), specs, *self));
  ASSERT_OK(optimizer->GradReady(0, host.data()));
  EXPECT_THAT(
      optimizer->Step({0.01}),
      StatusIs(kInvalid, AllOf(HasSubstr("kernel"), HasSubstr("`parameter`"))));
}

}  // namespace
}  // namespace zeromini
