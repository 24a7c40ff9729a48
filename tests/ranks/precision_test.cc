// 16-bit weights, masters, low-precision state: what they hold and that ranks,
// stages and replicas do not matter.

#include <cmath>
#include <map>
#include <string>
#include <tuple>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::HasSubstr;
using testing::Le;

struct Formats {
  DType dtype;
  MasterFormat master;
  StateFormat state;
};

std::string NameOf(const Formats& formats) {
  return std::string(DTypeName(formats.dtype)) + "_" +
         MasterFormatName(formats.master) + "_" +
         StateFormatName(formats.state);
}

TrainingCase Case(Algorithm algorithm, const Formats& formats, int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.algorithm = algorithm;
  c.options.master = formats.master;
  c.options.state = formats.state;
  c.options.max_grad_norm = 0.05;  // Bites in every step.
  for (ParamSpec& spec : c.specs) spec.dtype = formats.dtype;
  c.coarse = true;
  c.ranks = ranks;
  return c;
}

const Formats kFormats[] = {
    {DType::kFloat32, MasterFormat::kNone, StateFormat::kBFloat16},
    {DType::kFloat32, MasterFormat::kNone, StateFormat::kInt8},
    {DType::kBFloat16, MasterFormat::kNone, StateFormat::kFloat32},
    {DType::kBFloat16, MasterFormat::kFloat32, StateFormat::kFloat32},
    {DType::kBFloat16, MasterFormat::kRemainder16, StateFormat::kBFloat16},
    {DType::kBFloat16, MasterFormat::kRemainder8, StateFormat::kInt8},
    {DType::kFloat16, MasterFormat::kFloat32, StateFormat::kInt8},
};

class FormatsTest
    : public testing::TestWithParam<std::tuple<Algorithm, Formats>> {
 protected:
  Algorithm algorithm() const { return std::get<0>(GetParam()); }
  Formats formats() const { return std::get<1>(GetParam()); }
  TrainingCase CaseOf(int ranks) const {
    return Case(algorithm(), formats(), ranks);
  }
};

// Single weights may stay where rounding is stochastic.
bool Moved(const std::vector<float>& weights) {
  for (size_t i = 0; i < weights.size(); ++i) {
    if (weights[i] != InitialWeight(0, int64_t(i))) return true;
  }
  return false;
}

TEST_P(FormatsTest, EveryStageAndNumberOfRanksGivesTheBitsOfOneRank) {
  const TrainingCase one = CaseOf(1);
  const TrainingResult expected = Train(one);
  EXPECT_TRUE(Moved(expected.weights[0]));
  for (int ranks : {1, 2, 3, 5, 8}) {
    for (int stage : {1, 2, 3}) {
      TrainingCase many = CaseOf(ranks);
      many.options.stage = stage;
      many.options.memory =
          stage == 1 ? MemoryForm::kExternal : MemoryForm::kFlat;
      SCOPED_TRACE(testing::Message() << ranks << " ranks, stage " << stage);
      const TrainingResult got = Train(many);
      ExpectSameTraining(one, got, expected);
      EXPECT_EQ(got.norms, expected.norms);
    }
  }
}

TEST_P(FormatsTest, ReplicasOfShardGroupsGiveTheBitsOfOneRank) {
  const TrainingCase one = CaseOf(1);
  const TrainingResult expected = Train(one);
  for (int stage : {1, 2, 3}) {
    for (int shards : {1, 2}) {
      TrainingCase hybrid = CaseOf(4);
      hybrid.options.stage = stage;
      hybrid.options.shard_ranks = shards;
      hybrid.options.memory = MemoryForm::kFlat;
      SCOPED_TRACE(testing::Message()
                   << "groups of " << shards << ", stage " << stage);
      ExpectSameTraining(one, Train(hybrid), expected);
    }
  }
}

TEST_P(FormatsTest, BothAccumulationsGiveTheBitsOfOneLargeBatch) {
  TrainingCase once = CaseOf(2);
  once.edit = [](int, int, int, std::vector<float>* gradient) {
    for (float& g : *gradient) g *= 2;
    return true;
  };
  const TrainingResult expected = Train(once);
  for (int stage : {1, 2, 3}) {
    TrainingCase micro = CaseOf(2);
    micro.options.micro_steps = 2;
    micro.options.stage = stage;
    micro.options.memory = MemoryForm::kFlat;
    SCOPED_TRACE(testing::Message() << "stage " << stage);
    ExpectSameTraining(micro, Train(micro), expected);
  }
}

INSTANTIATE_TEST_SUITE_P(All, FormatsTest,
                         testing::Combine(testing::Values(Algorithm::kAdamMini,
                                                          Algorithm::kAdamW,
                                                          Algorithm::kSgd),
                                          testing::ValuesIn(kFormats)),
                         [](const auto& test) {
                           std::string name =
                               AlgorithmName(std::get<0>(test.param));
                           if (name == "adam-mini") name = "adam_mini";
                           return name + "_" + NameOf(std::get<1>(test.param));
                         });

TEST(PrecisionTest, TheSixteenBitRemainderTrainsLikeAnFp32MasterBitForBit) {
  for (Algorithm algorithm : {Algorithm::kAdamMini, Algorithm::kAdamW}) {
    TrainingCase master = Case(
        algorithm,
        {DType::kBFloat16, MasterFormat::kFloat32, StateFormat::kFloat32}, 1);
    master.steps = 1000;
    master.learning_rate = 1e-3;
    TrainingCase remainder = master;
    remainder.options.master = MasterFormat::kRemainder16;
    ExpectSameTraining(master, Train(remainder), Train(master));
  }
}

// With fp32 weights of the same gradients beside them: what the masters are.
TEST(PrecisionTest, ABf16WeightIsItsFp32MasterRoundedToNearest) {
  for (MasterFormat format :
       {MasterFormat::kFloat32, MasterFormat::kRemainder16}) {
    TrainingCase exact =
        Case(Algorithm::kAdamMini,
             {DType::kFloat32, MasterFormat::kNone, StateFormat::kFloat32}, 1);
    exact.steps = 100;
    TrainingCase rounded = exact;
    rounded.options.master = format;
    for (ParamSpec& spec : rounded.specs) spec.dtype = DType::kBFloat16;
    // Weights that start as bf16 numbers in both.
    const auto start = [](const OptimizerOptions& options,
                          absl::Span<const ParamSpec> specs,
                          Communicator& group) {
      for (const ParamSpec& spec : specs) {
        if (spec.dtype != DType::kFloat32) continue;
        auto* weights = static_cast<float*>(spec.data);
        for (int64_t i = 0; i < Elements(spec); ++i) {
          weights[i] = FromBFloat16(ToBFloat16(weights[i]));
        }
      }
      return MakeOptimizer(options, specs, group);
    };
    const TrainingResult masters = Train(exact, start);
    const TrainingResult weights = Train(rounded, start);
    for (size_t p = 0; p < exact.specs.size(); ++p) {
      for (size_t i = 0; i < masters.weights[p].size(); ++i) {
        const float master = masters.weights[p][i];
        const float weight = weights.weights[p][i];
        const float half_ulp = std::ldexp(1.0f, std::ilogb(master) - 8);
        ASSERT_LE(std::abs(weight - master), half_ulp)
            << exact.specs[p].name << " " << i;
        ASSERT_EQ(weight, FromBFloat16(ToBFloat16(weight)));
      }
    }
  }
}

// Blocks of many tiles, rows longer than a tile, blocks of a few rows: state
// does not depend on the weights, so that of fp32 weights says what it must be.
TEST(PrecisionTest, TilesOfAnySizeGiveTheStateOfAnUpdateAtOnce) {
  for (Algorithm algorithm : {Algorithm::kAdamMini, Algorithm::kAdamW}) {
    TrainingCase plain;
    plain.options = ExactOptions();
    plain.options.algorithm = algorithm;
    plain.options.max_grad_norm = 0.05;
    plain.coarse = true;
    plain.steps = 3;
    plain.specs = {Spec("whole", {150, 300}, BlockRule::Whole(), 0),
                   Spec("heads", {120, 300}, BlockRule::Heads(40), 0),
                   Spec("long rows", {3, 9000}, BlockRule::Rows(), 1),
                   Spec("rows", {100, 300}, BlockRule::Rows(), 1)};
    const TrainingResult expected = Train(plain);
    for (int ranks : {1, 2}) {
      TrainingCase tiled = plain;
      tiled.ranks = ranks;
      for (ParamSpec& spec : tiled.specs) spec.dtype = DType::kBFloat16;
      const TrainingResult got = Train(tiled);
      for (size_t p = 0; p < plain.specs.size(); ++p) {
        EXPECT_EQ(got.states[p].momentum, expected.states[p].momentum)
            << plain.specs[p].name;
        EXPECT_EQ(got.states[p].second_moment, expected.states[p].second_moment)
            << plain.specs[p].name;
      }
    }
  }
}

TEST(PrecisionTest, MixedDtypesInOneModelGiveTheBitsOfOneRank) {
  TrainingCase one =
      Case(Algorithm::kAdamMini,
           {DType::kBFloat16, MasterFormat::kFloat32, StateFormat::kInt8}, 1);
  for (size_t p = 0; p < one.specs.size(); ++p) {
    if (one.specs[p].shape.size() == 1) one.specs[p].dtype = DType::kFloat32;
    if (one.specs[p].name == "layer1.wq") {
      one.specs[p].dtype = DType::kFloat16;
    }
  }
  const TrainingResult expected = Train(one);
  for (int stage : {1, 2, 3}) {
    TrainingCase many = one;
    many.ranks = 3;
    many.options.stage = stage;
    many.options.memory = MemoryForm::kFlat;
    ExpectSameTraining(one, Train(many), expected);
  }
}

TEST(PrecisionTest, ANanInOneMicroStepOfOneRankLeavesNoTrace) {
  for (int stage : {1, 2, 3}) {
    TrainingCase clean = Case(
        Algorithm::kAdamMini,
        {DType::kBFloat16, MasterFormat::kRemainder8, StateFormat::kInt8}, 2);
    clean.options.stage = stage;
    clean.options.memory = MemoryForm::kFlat;
    clean.options.micro_steps = 2;
    clean.options.non_finite = NonFiniteGradients::kSkip;
    clean.steps = 3;
    // The same batches, with a bad one in between.
    TrainingCase bad = clean;
    bad.steps = 4;
    auto calls = std::make_shared<std::array<int, 2>>();
    bad.edit = [calls](int p, int step, int rank, std::vector<float>* g) {
      if (step >= 3) {
        for (size_t i = 0; i < g->size(); ++i) {
          (*g)[i] = CoarseGradientPart(p, int64_t(i), step - 1, rank, 2);
        }
      }
      if (step == 2 && rank == 1 && p == 7 && (*calls)[rank]++ == 1) {
        g->back() = NAN;
      }
      return true;
    };
    ExpectSameTraining(clean, Train(bad), Train(clean));
  }
}

TEST(PrecisionTest, RemaindersAreRefusedForFp16Weights) {
  TrainingCase c = Case(
      Algorithm::kAdamMini,
      {DType::kFloat16, MasterFormat::kRemainder16, StateFormat::kFloat32}, 2);
  RunRanks(c.ranks, [&](int, Communicator& group) {
    Replica replica(c.specs);
    EXPECT_THAT(MakeOptimizer(c.options, replica.specs(), group).status(),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("remainder16 needs bf16 weights")));
  });
}

// Bytes per parameter of weights and state at rest, on one rank.
double BytesPerParameter(Algorithm algorithm, const Formats& formats) {
  OptimizerOptions options;
  options.algorithm = algorithm;
  options.memory = MemoryForm::kFlat;
  options.master = formats.master;
  options.state = formats.state;
  std::vector<ParamSpec> specs = {
      Spec("w", {4096, 1024}, BlockRule::Rows(), 0)};
  specs[0].dtype = formats.dtype;
  auto group = MakeSelf();
  auto optimizer = MakeOptimizer(options, specs, *group);
  if (!optimizer.ok()) return -1;
  const MemoryReport memory = (*optimizer)->Memory();
  return double(memory.weights + memory.state()) / (4096 * 1024);
}

TEST(PrecisionTest, BytesPerParameterAreWhatTheFormatsPromise) {
  const auto bytes = [](Algorithm algorithm, DType dtype, MasterFormat master,
                        StateFormat state) {
    return BytesPerParameter(algorithm, {dtype, master, state});
  };
  constexpr double kScalars = 4.0 / 1024;
  EXPECT_EQ(bytes(Algorithm::kAdamW, DType::kBFloat16, MasterFormat::kFloat32,
                  StateFormat::kFloat32),
            14);
  EXPECT_EQ(bytes(Algorithm::kAdamMini, DType::kBFloat16,
                  MasterFormat::kFloat32, StateFormat::kFloat32),
            10 + kScalars);
  EXPECT_EQ(bytes(Algorithm::kAdamMini, DType::kBFloat16,
                  MasterFormat::kRemainder16, StateFormat::kBFloat16),
            6 + kScalars);
  EXPECT_EQ(bytes(Algorithm::kAdamMini, DType::kBFloat16,
                  MasterFormat::kRemainder8, StateFormat::kInt8),
            4.0625 + kScalars);
  EXPECT_EQ(bytes(Algorithm::kAdamW, DType::kBFloat16,
                  MasterFormat::kRemainder8, StateFormat::kInt8),
            5.125);
  EXPECT_EQ(bytes(Algorithm::kSgd, DType::kBFloat16, MasterFormat::kRemainder8,
                  StateFormat::kInt8),
            4.0625);
}

}  // namespace
}  // namespace zeromini
