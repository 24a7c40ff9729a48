// A method that projects a matrix to r rows and renews the projection every
// few steps, beside AdamW and Adam-mini in the same buckets.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/delayed_stream.h"
#include "support/projected_training.h"

namespace zeromini {
namespace {

TEST(ProjectionTest, MatricesShareBucketsWithOtherMethods) {
  const TrainingCase c = MatrixCase(1);
  Replica replica(c.specs);
  const auto self = Self();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeProjected(c.options, replica.specs(), *self));
  const std::vector<PlannedParam>& params = optimizer->plan().params;
  EXPECT_EQ(params[kMatrix].buckets, params[kMatrix + 1].buckets);
  EXPECT_EQ(params[kMatrix].buckets, params[kMatrix - 1].buckets);
  EXPECT_EQ(params[kTransposed].buckets, params[kTransposed + 1].buckets);
}

TEST(ProjectionTest, OneRankDoesWhatAPlainLoopDoes) {
  const TrainingCase c = MatrixCase(1);
  EXPECT_EQ(Train(c, MakeProjected).weights[kMatrix], MatrixAlone(c));
}

TEST(ProjectionTest, AnyRanksStageAndMemoryHaveTheBitsOfOneRank) {
  for (int micro_steps : {1, 2}) {
    TrainingCase one = MatrixCase(1);
    one.options.micro_steps = micro_steps;
    const TrainingResult expected = Train(one, MakeProjected);
    ForEachForm([&](TrainingCase c) {
      c.options.micro_steps = micro_steps;
      const TrainingResult got = Train(c, MakeProjected);
      ExpectSameTraining(c, got, expected);
      EXPECT_EQ(got.norms, expected.norms);
    });
  }
}

TEST(ProjectionTest, AUsualStepSendsTheProjectionAndARefreshTheGradient) {
  ForEachForm([](TrainingCase c) {
    RunRanks(c.ranks, [&](int rank, Communicator& group) {
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeProjected(c.options, replica.specs(), group));
      ASSERT_OK(FillWeights(c, replica, *optimizer));
      const int64_t shards = optimizer->plan().options.ranks;
      const int64_t replicas = c.ranks / shards;
      int64_t usual = 0, full = 0;
      for (const BucketPlan& bucket : optimizer->plan().buckets) {
        usual += bucket.wire_segment;
        full += bucket.segment;
      }
      // Inside a copy segments go to their owners; between copies they are
      // reduced and spread.
      const auto bytes = [&](int64_t segments) {
        return 4 * segments * (shards - 1) +
               4 * segments * 2 * (replicas - 1) / replicas;
      };
      for (int step = 1; step <= c.steps; ++step) {
        ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
        ASSERT_OK_AND_ASSIGN(StepReport report, optimizer->Step({0.01}));
        const bool refresh = (step - 1) % kPeriod == 0;
        EXPECT_EQ(report.traffic[int(Purpose::kGradients)].bytes,
                  bytes(refresh ? full : usual))
            << "step " << step;
        const int64_t projectors = refresh ? 2 : 0;
        const TrafficCount& state = report.traffic[int(Purpose::kState)];
        EXPECT_EQ(state.calls, projectors) << "step " << step;
        EXPECT_EQ(state.bytes,
                  projectors * (kRank * 8 * (shards - 1) / shards));
      }
      ASSERT_OK(optimizer->Close());
    });
  });
}

TEST(ProjectionTest, TheWireOfAUsualStepHasRRowsOfEachMatrix) {
  const TrainingCase c = MatrixCase(1);
  Replica replica(c.specs);
  const auto self = Self();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeProjected(c.options, replica.specs(), *self));
  int64_t wire = 0, full = 0;
  for (const BucketPlan& bucket : optimizer->plan().buckets) {
    wire += bucket.wire_elements;
    full += bucket.elements;
  }
  const int64_t others = 16 * 8 + 24 * 8 + 8 + 16 * 8 + 24 * 8;
  EXPECT_EQ(wire, kRank * 40 + kRank * 48 + others);
  EXPECT_EQ(full, 96 * 40 + 48 * 40 + others);
}

TEST(ProjectionTest, MemoryIsTheProjectorOnEveryRankAndRRowsOnTheOwner) {
  ForEachForm([](TrainingCase c) {
    std::vector<MemoryReport> reports(c.ranks);
    RunRanks(c.ranks, [&](int rank, Communicator& group) {
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeProjected(c.options, replica.specs(), group));
      reports[rank] = optimizer->Memory();
      ASSERT_OK(optimizer->Close());
    });
    int64_t momentum = 0, second_moment = 0;
    for (const MemoryReport& report : reports) {
      EXPECT_EQ(report.method_state, 2 * kRank * 8);
      momentum += report.momentum;
      second_moment += report.second_moment;
    }
    const int64_t copies = c.ranks == 4 ? 2 : 1;
    const int64_t elements = kRank * 40 + kRank * 48 + 2 * (16 * 8 + 24 * 8);
    EXPECT_EQ(momentum, copies * 4 * (elements + 8));
    // Four heads a query and one norm beside v per element.
    EXPECT_EQ(second_moment,
              copies * 4 * (kRank * 48 + 2 * 24 * 8 + 2 * 4 + 1));
  });
}

// Gradients of `bad_param` that are NaN in the steps `bad`, on the last rank.
// In all rows: what a usual step projects away nobody sees.
TrainingCase WithNan(TrainingCase c, int bad_param, std::vector<int> bad) {
  c.options.non_finite = NonFiniteGradients::kSkip;
  c.edit = [=, ranks = c.ranks](int param, int step, int rank,
                                std::vector<float>* gradient) {
    const bool here = param == bad_param && rank == ranks - 1 &&
                      std::count(bad.begin(), bad.end(), step) > 0;
    if (here) std::fill(gradient->begin(), gradient->end(), NAN);
    return true;
  };
  return c;
}

TEST(ProjectionTest, ASkippedStepRenewsNoProjectionAndMovesNothing) {
  // A refresh, a usual step, and one after it.
  const std::vector<int> bad = {kPeriod + 1, kPeriod + 3};
  for (AbsentGradients absent :
       {AbsentGradients::kError, AbsentGradients::kSkip}) {
    TrainingCase one = WithNan(MatrixCase(1), 0, bad);
    one.options.absent_gradients = absent;
    const TrainingResult expected = Train(one, MakeProjected);
    EXPECT_EQ(expected.weights[kMatrix], MatrixAlone(one, bad));
    for (int where : {0, kMatrix, kTransposed}) {
      ForEachForm([&](TrainingCase c) {
        c = WithNan(c, where, bad);
        c.options.absent_gradients = absent;
        ExpectSameTraining(c, Train(c, MakeProjected), expected);
      });
    }
  }
}

absl::StatusOr<std::unique_ptr<Optimizer>> MakeLate(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  OptimizerParts parts = ProjectionParts(kRank, kPeriod);
  parts.device =
      MakeHostDevice(CpuKernels(), group.timeout(),
                     std::make_unique<DelayedStream>(
                         3 + group.rank(), std::chrono::microseconds(500)));
  return CreateOptimizer(options, specs, group, std::move(parts));
}

TEST(ProjectionTest, LateStreamsAndLateDecisionsChangeNoBit) {
  const TrainingResult expected = Train(MatrixCase(1), MakeProjected);
  for (int stage : {1, 2, 3}) {
    TrainingCase c = MatrixCase(3);
    c.options.stage = stage;
    if (stage == 3) c.options.memory = MemoryForm::kFlat;
    c.options.absent_gradients = AbsentGradients::kSkip;
    c.options.non_finite = NonFiniteGradients::kSkip;
    c.wait = false;
    c.group.make_stream =
        DelayedStream::Factory(5, std::chrono::microseconds(500));
    ExpectSameTraining(c, Train(c, MakeLate), expected);
  }
}

TEST(ProjectionTest, AMatrixOf11008By4096AtRank128HasTheBitsOfOneRank) {
  constexpr int64_t kRows = 11008, kColumns = 4096, kReal = 128;
  const auto make = [&](const OptimizerOptions& options,
                        absl::Span<const ParamSpec> specs,
                        Communicator& group) {
    return CreateOptimizer(options, specs, group, ProjectionParts(kReal, 2));
  };
  TrainingCase c;
  c.options = ExactOptions();
  c.options.algorithm = Algorithm::kSgd;
  c.specs = {Spec("matrix", {kRows, kColumns}, BlockRule::Rows(), 0),
             Spec("bias", {kColumns}, BlockRule::Element(), 0)};
  c.steps = 2;
  const TrainingResult one = Train(c, make);
  EXPECT_EQ(int64_t(one.states[0].momentum.size()), kReal * kColumns);
  c.ranks = 2;
  c.options.stage = 2;
  const TrainingResult two = Train(c, make);
  EXPECT_TRUE(two.weights == one.weights);
  EXPECT_TRUE(two.states[0].momentum == one.states[0].momentum);
}

}  // namespace
}  // namespace zeromini
