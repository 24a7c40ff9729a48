// Projections that differ within a bucket, of the state alone, of a stack, and
// in every format.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/projected_training.h"

namespace zeromini {
namespace {

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

TEST(ProjectionUnitsTest, ANeighbourThatRenewsItsProjectionRenewsNoOther) {
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

TEST(ProjectionUnitsTest, OnlyBucketsOfWhatRenewsItsProjectionTravelWhole) {
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

TEST(ProjectionUnitsTest, AProjectionOfTheStateAloneIsRenewedToo) {
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

TEST(ProjectionUnitsTest, EveryFormatOfWeightsAndStateHasTheBitsOfOneRank) {
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

// Of a stack of matrices each is a unit; its first rows are sent and kept.
class FirstRows : public Method {
 public:
  FirstRows(int64_t unit_rows, int64_t kept)
      : unit_rows_(unit_rows), kept_(kept) {}

  absl::Status PackGradient(const KernelTable& kernels,
                            const GradientPack& pack,
                            Stream stream) const override {
    for (int64_t unit = 0; unit < pack.rows.count / unit_rows_; ++unit) {
      const int64_t row = pack.rows.first + unit * unit_rows_;
      ZEROMINI_RETURN_IF_ERROR(
          PackRows(kernels,
                   {pack.param,
                    {row, kept_},
                    pack.gradient,
                    pack.wire + unit * kept_ * pack.param.row_elements,
                    {pack.param.dtype, DType::kFloat32}},
                   stream));
    }
    return absl::OkStatus();
  }

  absl::Status Update(const KernelTable&, const RunUpdate& update,
                      Stream) const override {
    const int64_t kept = kept_ * update.param.row_elements;
    const int64_t unit = unit_rows_ * update.param.row_elements;
    for (int64_t i = 0; i < update.run.state_elements; ++i) {
      update.parameter[i / kept * unit + i % kept] -=
          RowProjection::Moved(*update.scalars, update.gradient[i],
                               update.momentum + i, update.second_moment + i);
    }
    return absl::OkStatus();
  }

 private:
  const int64_t unit_rows_;
  const int64_t kept_;
};

TEST(ProjectionUnitsTest, AStackOfMatricesHasTheBitsOfOneRankInEveryFormat) {
  const auto make = [](const OptimizerOptions& options,
                       absl::Span<const ParamSpec> specs, Communicator& group) {
    OptimizerParts parts;
    parts.methods = [](const PlannedParam&) {
      return std::make_shared<FirstRows>(12, 3);
    };
    parts.make_plan = [](absl::Span<const ParamSpec> s,
                         const PlanOptions& plan_options) {
      return MakePlanWithUnits(s, plan_options, [](const PlannedParam& param) {
        const int64_t kept = 3 * param.row_elements;
        return std::vector<UnitSegment>{{param.rows, 12, kept, kept}};
      });
    };
    return CreateOptimizer(options, specs, group, std::move(parts));
  };
  for (StateFormat state :
       {StateFormat::kFloat32, StateFormat::kBFloat16, StateFormat::kInt8}) {
    TrainingCase one;
    one.options = ExactOptions();
    one.options.algorithm = Algorithm::kAdamW;
    one.options.state = state;
    one.options.non_finite = NonFiniteGradients::kError;
    one.specs = {Spec("stack", {7, 12, 30}, BlockRule::Rows(), 0),
                 Spec("other", {36, 10}, BlockRule::Rows(), 0)};
    one.specs[0].slices = 7;
    const TrainingResult expected = Train(one, make);
    for (int ranks : {2, 3, 5}) {
      TrainingCase c = one;
      c.ranks = ranks;
      SCOPED_TRACE(testing::Message()
                   << ranks << " ranks, state as " << StateFormatName(state));
      const TrainingResult got = Train(c, make);
      ExpectSameTraining(c, got, expected);
      EXPECT_EQ(got.norms, expected.norms);
    }
  }
}

}  // namespace
}  // namespace zeromini
