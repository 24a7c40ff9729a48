// A method that projects a matrix to r rows and renews the projection every
// few steps, beside AdamW and Adam-mini in the same buckets.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/delayed_stream.h"
#include "support/exact_training.h"
#include "support/row_projection.h"

namespace zeromini {
namespace {

constexpr int64_t kRank = 8;
constexpr int kPeriod = 3;
constexpr int kMatrix = 1;      // Of Matrices(): momentum alone.
constexpr int kTransposed = 5;  // With v.

// Groups of MatrixOptions().
enum Group { kAdamMiniGroup, kAdamWGroup, kSgdGroup };

std::vector<ParamSpec> Matrices() {
  std::vector<ParamSpec> specs = {
      Spec("layer0.wq", {16, 8}, BlockRule::Heads(4), 0),
      Spec("layer0.matrix", {96, 40}, BlockRule::Rows(), 0),
      Spec("layer0.rest", {24, 8}, BlockRule::Rows(), 0),
      Spec("layer0.norm", {8}, BlockRule::Whole(), 0),
      Spec("layer1.wq", {16, 8}, BlockRule::Heads(4), 1),
      Spec("layer1.matrix", {48, 40}, BlockRule::Rows(), 1),
      Spec("layer1.rest", {24, 8}, BlockRule::Rows(), 1)};
  specs[kMatrix].hyper_group = kSgdGroup;
  specs[kTransposed].hyper_group = kAdamWGroup;
  specs[kTransposed].output_is_last = true;
  specs[2].hyper_group = specs[6].hyper_group = kAdamWGroup;
  return specs;
}

OptimizerOptions MatrixOptions() {
  OptimizerOptions options = ExactOptions();
  options.hyper_groups.resize(3);
  options.hyper_groups[kAdamWGroup].name = "adamw";
  options.hyper_groups[kAdamWGroup].algorithm = Algorithm::kAdamW;
  options.hyper_groups[kSgdGroup].name = "sgd";
  options.hyper_groups[kSgdGroup].algorithm = Algorithm::kSgd;
  return options;
}

TrainingCase MatrixCase(int ranks) {
  TrainingCase c;
  c.options = MatrixOptions();
  c.specs = Matrices();
  c.ranks = ranks;
  c.steps = 2 * kPeriod + 1;
  return c;
}

absl::StatusOr<std::unique_ptr<Optimizer>> MakeProjected(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  return CreateOptimizer(options, specs, group,
                         ProjectionParts(kRank, kPeriod));
}

// Calls `body` with each stage, number of ranks, replicas and memory form.
template <typename Body>
void ForEachForm(const Body& body) {
  for (int stage : {1, 2, 3}) {
    for (int ranks : {1, 2, 3, 4, 5}) {
      for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
        if (stage == 3 && memory == MemoryForm::kExternal) continue;
        TrainingCase c = MatrixCase(ranks);
        c.options.stage = stage;
        c.options.memory = memory;
        if (ranks == 4) c.options.shard_ranks = 2;
        SCOPED_TRACE(testing::Message()
                     << ranks << " ranks, stage " << stage
                     << (memory == MemoryForm::kFlat ? ", flat" : ""));
        body(c);
      }
    }
  }
}

// kMatrix trained by a plain loop; steps in `skipped` do not happen.
std::vector<float> MatrixAlone(const TrainingCase& c,
                               const std::vector<int>& skipped = {}) {
  const int64_t rows = c.specs[kMatrix].shape[0];
  const int64_t columns = c.specs[kMatrix].shape[1];
  std::vector<float> weights(rows * columns), gradient(rows * columns);
  for (int64_t i = 0; i < rows * columns; ++i) {
    weights[i] = InitialWeight(kMatrix, i);
  }
  std::vector<float> momentum(kRank * columns, 0);
  std::vector<int64_t> kept(kRank, 0);
  for (int step = 1; step <= c.steps; ++step) {
    if (std::count(skipped.begin(), skipped.end(), step) > 0) continue;
    for (int64_t i = 0; i < rows * columns; ++i) {
      gradient[i] =
          float(c.options.micro_steps) * GradientPart(kMatrix, i, step, 0, 1);
    }
    if ((step - 1) % kPeriod == 0) {
      kept = LargestRows(gradient.data(), rows, columns, kRank);
    }
    const HyperGroup& group = c.options.hyper_groups[kSgdGroup];
    for (float& w : weights) {
      w *= float(1 - c.learning_rate * group.weight_decay);
    }
    for (int64_t i = 0; i < kRank * columns; ++i) {
      const int64_t at = kept[i / columns] * columns + i % columns;
      momentum[i] = float(group.beta1) * momentum[i] + gradient[at];
      weights[at] -= float(c.learning_rate) * momentum[i];
    }
  }
  return weights;
}

TEST(ProjectionTest, MatricesShareBucketsWithOtherMethods) {
  const TrainingCase c = MatrixCase(1);
  Replica replica(c.specs);
  const auto self = Self();
  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       MakeProjected(c.options, replica.specs(), *self));
  const std::vector<PlannedParam>& params = optimizer->plan().params;
  EXPECT_EQ(params[kMatrix].bucket, params[kMatrix + 1].bucket);
  EXPECT_EQ(params[kMatrix].bucket, params[kMatrix - 1].bucket);
  EXPECT_EQ(params[kTransposed].bucket, params[kTransposed + 1].bucket);
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

// Each matrix renews its projection at a time of its own, though what is in
// their bucket travels whole whenever one of them does.
TrainingCase TwoInABucket(int ranks) {
  TrainingCase c = MatrixCase(ranks);
  c.specs[3] = Spec("layer0.other_matrix", {48, 40}, BlockRule::Rows(), 0);
  c.specs[3].hyper_group = kAdamWGroup;
  return c;
}

OptimizerParts WithPeriods(int64_t matrix, int64_t others) {
  return ProjectionParts(kRank, [=](const PlannedParam& param) {
    return std::make_shared<RowProjection>(
        kRank, param.name == "layer0.matrix" ? matrix : others);
  });
}

TEST(ProjectionTest, ANeighbourThatRenewsItsProjectionRenewsNoOther) {
  const auto train = [](const TrainingCase& c, int64_t others) {
    return Train(c,
                 [=](const OptimizerOptions& options,
                     absl::Span<const ParamSpec> specs, Communicator& group) {
                   return CreateOptimizer(options, specs, group,
                                          WithPeriods(kPeriod, others));
                 });
  };
  const TrainingResult one = train(TwoInABucket(1), 2);
  EXPECT_EQ(one.weights[kMatrix], MatrixAlone(TwoInABucket(1)));
  EXPECT_NE(one.weights[3], train(TwoInABucket(1), kPeriod).weights[3]);
  ForEachForm([&](TrainingCase c) {
    c.specs = TwoInABucket(1).specs;
    ExpectSameTraining(c, train(c, 2), one);
  });
}

TEST(ProjectionTest, OnlyBucketsOfWhatRenewsItsProjectionTravelWhole) {
  TrainingCase c = MatrixCase(2);
  c.options.stage = 3;  // A bucket for each layer.
  c.options.memory = MemoryForm::kFlat;
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(
        auto optimizer,
        CreateOptimizer(c.options, replica.specs(), group, WithPeriods(1, 2)));
    const std::vector<BucketPlan>& buckets = optimizer->plan().buckets;
    ASSERT_EQ(buckets.size(), 2);
    for (int step = 1; step <= 2; ++step) {
      ASSERT_OK(GiveGradients(c, *optimizer, step, rank));
      ASSERT_OK_AND_ASSIGN(StepReport report, optimizer->Step({0.01}));
      const int64_t second =
          step == 1 ? buckets[1].segment : buckets[1].wire_segment;
      EXPECT_EQ(report.traffic[int(Purpose::kGradients)].bytes,
                4 * (buckets[0].segment + second));
      EXPECT_EQ(report.traffic[int(Purpose::kState)].calls, step == 1 ? 2 : 1);
    }
  });
}

// Sends the gradient as it is; the state alone is projected.
class StateProjection : public RowProjection {
 public:
  StateProjection() : RowProjection(kRank, kPeriod) {}

  absl::Status PackGradient(const KernelTable& kernels,
                            const GradientPack& pack,
                            Stream stream) const override {
    return PackRows(kernels,
                    {pack.param,
                     pack.rows,
                     pack.gradient,
                     pack.wire,
                     {pack.param.dtype, DType::kFloat32}},
                    stream);
  }

  absl::Status Update(const KernelTable& kernels, const RunUpdate& update,
                      Stream stream) const override {
    RunUpdate whole = update;
    whole.full_gradient = true;
    return RowProjection::Update(kernels, whole, stream);
  }
};

TEST(ProjectionTest, AProjectionOfTheStateAloneIsRenewedToo) {
  const auto make = [](const OptimizerOptions& options,
                       absl::Span<const ParamSpec> specs, Communicator& group) {
    OptimizerParts parts = ProjectionParts(kRank, [](const PlannedParam&) {
      return std::make_shared<StateProjection>();
    });
    parts.make_plan = [](absl::Span<const ParamSpec> s,
                         const PlanOptions& plan_options) {
      return MakePlanWithUnits(s, plan_options, [](const PlannedParam& param) {
        std::vector<UnitSegment> units;
        const int64_t columns = param.row_elements;
        if (IsMatrix(param)) {
          units = {
              {param.rows, param.rows, param.rows * columns, kRank * columns}};
        }
        return units;
      });
    };
    return CreateOptimizer(options, specs, group, std::move(parts));
  };
  const TrainingResult one = Train(MatrixCase(1), make);
  EXPECT_EQ(one.weights[kMatrix], MatrixAlone(MatrixCase(1)));
  ForEachForm([&](const TrainingCase& c) {
    ExpectSameTraining(c, Train(c, make), one);
  });
}

TEST(ProjectionTest, EveryFormatOfWeightsAndStateHasTheBitsOfOneRank) {
  for (StateFormat state : {StateFormat::kBFloat16, StateFormat::kInt8}) {
    for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
      TrainingCase one = MatrixCase(1);
      one.options.state = state;
      one.coarse = true;
      for (ParamSpec& spec : one.specs) spec.dtype = dtype;
      // More than a tile of a coded update holds.
      one.specs[kMatrix].shape = {96, 400};
      const TrainingResult expected = Train(one, MakeProjected);
      EXPECT_NE(expected.weights[kMatrix][0], InitialWeight(kMatrix, 0));
      ForEachForm([&](TrainingCase c) {
        c.options.state = state;
        c.specs = one.specs;
        c.coarse = true;
        ExpectSameTraining(c, Train(c, MakeProjected), expected);
      });
    }
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
