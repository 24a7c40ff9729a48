// The road carries what comes later: a method whose gradient takes a quarter of
// the room on the wire, and a device whose streams are late.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/delayed_stream.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

// Sends the sums of four neighbours; moves all four by what they share. State
// is as small as the wire.
class QuarterMethod : public Method {
 public:
  absl::Status PackGradient(const KernelTable&, const GradientPack& pack,
                            Stream) const override {
    const float* in = static_cast<const float*>(pack.gradient) +
                      pack.rows.first * pack.param.row_elements;
    const int64_t out_elements = pack.rows.count * pack.param.row_elements / 4;
    for (int64_t i = 0; i < out_elements; ++i) {
      pack.wire[i] = in[4 * i] + in[4 * i + 1] + in[4 * i + 2] + in[4 * i + 3];
    }
    return absl::OkStatus();
  }

  absl::Status Update(const KernelTable&, const RunUpdate& update,
                      Stream) const override {
    const int64_t small = update.run.wire_elements;
    for (int64_t i = 0; i < small; ++i) {
      update.momentum[i] += update.gradient[i];
      for (int k = 0; k < 4; ++k) {
        update.parameter[4 * i + k] -=
            float(update.scalars->learning_rate) * update.momentum[i];
      }
    }
    return absl::OkStatus();
  }
};

absl::StatusOr<Plan> QuarterPlan(absl::Span<const ParamSpec> specs,
                                 const PlanOptions& options) {
  PlanOptions adamw = options;
  adamw.algorithm = Algorithm::kAdamW;
  auto plan = MakePlan(specs, adamw);
  if (!plan.ok()) return plan.status();
  for (PlannedParam& param : plan->params) {
    for (UnitSegment& unit : param.units) {
      unit.wire_elements /= 4;
      unit.state_elements /= 4;
    }
    param.blocks_total = param.rows * param.row_elements / 4;
  }
  for (BucketPlan& bucket : plan->buckets) {
    bucket.wire_elements /= 4;
    bucket.wire_segment = (bucket.segment + 3) / 4;
    for (auto& runs : bucket.runs) {
      for (Run& run : runs) {
        run.wire_offset = run.offset / 4;
        run.wire_elements /= 4;
        run.state_elements /= 4;
      }
    }
  }
  return plan;
}

TrainingCase Rows(int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.specs = {Spec("a", {12, 16}, BlockRule::Rows(), 0),
             Spec("b", {20, 8}, BlockRule::Rows(), 1),
             Spec("c", {6, 32}, BlockRule::Rows(), 2)};
  c.ranks = ranks;
  return c;
}

absl::StatusOr<std::unique_ptr<Optimizer>> MakeQuarter(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  OptimizerParts parts;
  parts.methods = [](const PlannedParam&) {
    return std::make_shared<QuarterMethod>();
  };
  parts.make_plan = QuarterPlan;
  return CreateOptimizer(options, specs, group, std::move(parts));
}

TEST(FakePartsTest, AMethodWithAQuarterOnTheWireTrainsTheSameOnAnyRanks) {
  const TrainingResult one = Train(Rows(1), MakeQuarter);
  EXPECT_NE(one.weights[0][0], InitialWeight(0, 0));
  for (int ranks : {2, 3, 5}) {
    for (int stage : {1, 2}) {
      TrainingCase c = Rows(ranks);
      c.options.stage = stage;
      const TrainingResult many = Train(c, MakeQuarter);
      EXPECT_EQ(many.weights, one.weights) << ranks << " ranks";
    }
  }
}

TEST(FakePartsTest, AMethodWithAQuarterOnTheWireSendsAQuarter) {
  const TrainingCase c = Rows(2);
  RunRanks(2, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeQuarter(c.options, replica.specs(), group));
    ASSERT_OK(GiveGradients(c, *optimizer, 1, rank));
    ASSERT_OK_AND_ASSIGN(StepReport report, optimizer->Step({0.01}));
    const auto& gradients = report.traffic[int(Purpose::kGradients)];
    const auto& weights = report.traffic[int(Purpose::kWeights)];
    EXPECT_EQ(4 * (gradients.bytes - gradients.padding_bytes),
              weights.bytes - weights.padding_bytes);
  });
}

absl::StatusOr<std::unique_ptr<Optimizer>> MakeLate(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  OptimizerParts parts;
  parts.device =
      MakeHostDevice(CpuKernels(), group.timeout(),
                     std::make_unique<DelayedStream>(
                         11 + group.rank(), std::chrono::microseconds(3000)));
  return CreateOptimizer(options, specs, group, std::move(parts));
}

TEST(FakePartsTest, ADeviceWithLateStreamsChangesNoBit) {
  for (int stage : {1, 2}) {
    for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
      TrainingCase c;
      c.options = ExactOptions();
      c.options.stage = stage;
      c.options.memory = memory;
      c.options.micro_steps = 2;
      c.options.max_grad_norm = 0.5;
      c.ranks = 3;
      TrainingCase late = c;
      late.group.make_stream =
          DelayedStream::Factory(5, std::chrono::microseconds(2000));
      ExpectSameTraining(c, Train(late, MakeLate), Train(c));
    }
  }
}

}  // namespace
}  // namespace zeromini
