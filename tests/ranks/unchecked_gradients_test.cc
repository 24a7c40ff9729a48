// NonFiniteGradients::kIgnore: NaN and infinity go where the arithmetic takes
// them, on any number of ranks and in any format, and refuse no step.

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// All NaNs are equal.
std::vector<std::string> Bits(const std::vector<float>& values) {
  std::vector<std::string> bits;
  for (float value : values) {
    bits.push_back(std::isnan(value) ? "nan" : testing::PrintToString(value));
  }
  return bits;
}

struct Format {
  DType dtype;
  MasterFormat master;
  StateFormat state;
};
constexpr Format kPlain = {DType::kFloat32, MasterFormat::kNone,
                           StateFormat::kFloat32};

// With a block that more than one rank cuts, one of rows and one of elements.
TrainingCase Unchecked(Algorithm algorithm, const Format& format, int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.algorithm = algorithm;
  c.options.non_finite = NonFiniteGradients::kIgnore;
  c.options.master = format.master;
  c.options.state = format.state;
  c.coarse = true;
  c.ranks = ranks;
  c.steps = 3;
  c.specs = {Spec("tall", {64, 8}, BlockRule::Whole(), 0),
             Spec("heads", {16, 8}, BlockRule::Heads(4), 0),
             Spec("rows", {12, 8}, BlockRule::Rows(), 1),
             Spec("bias", {7}, BlockRule::Element(), 1)};
  for (ParamSpec& spec : c.specs) spec.dtype = format.dtype;
  return c;
}

// In step 2, in every parameter, from the last rank.
void Spoil(TrainingCase& c, float bad) {
  const int last = c.ranks - 1;
  c.edit = [=](int, int step, int rank, std::vector<float>* gradient) {
    if (step == 2 && rank == last) (*gradient)[gradient->size() / 2 + 1] = bad;
    return true;
  };
}

TrainingResult TrainUnchecked(const TrainingCase& c) {
  std::vector<TrainingResult> results(c.ranks);
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    TrainRank(c, rank, group, MakeOptimizer, &results[rank]);
  });
  for (TrainingResult& result : results) {
    EXPECT_EQ(result.weights.size(), c.specs.size());
    result.weights.resize(c.specs.size());
    result.states.resize(c.specs.size());
    for (size_t p = 0; p < c.specs.size(); ++p) {
      EXPECT_EQ(Bits(result.weights[p]), Bits(results[0].weights[p]));
    }
  }
  return results[0];
}

void ExpectSameBits(const TrainingCase& c, const TrainingResult& got,
                    const TrainingResult& expected) {
  for (size_t p = 0; p < c.specs.size(); ++p) {
    const std::string& name = c.specs[p].name;
    EXPECT_EQ(Bits(got.weights[p]), Bits(expected.weights[p])) << name;
    EXPECT_EQ(Bits(got.states[p].momentum), Bits(expected.states[p].momentum))
        << name;
    EXPECT_EQ(Bits(got.states[p].second_moment),
              Bits(expected.states[p].second_moment))
        << name;
  }
}

void ExpectAnyRanksGiveTheBitsOfOne(Algorithm algorithm, const Format& format,
                                    float bad) {
  TrainingCase one = Unchecked(algorithm, format, 1);
  Spoil(one, bad);
  const TrainingResult expected = TrainUnchecked(one);
  for (int ranks : {2, 3, 5}) {
    for (int stage : {1, 2, 3}) {
      TrainingCase c = Unchecked(algorithm, format, ranks);
      c.options.stage = stage;
      c.options.memory = MemoryForm::kFlat;
      Spoil(c, bad);
      SCOPED_TRACE(testing::Message()
                   << AlgorithmName(algorithm) << " " << DTypeName(format.dtype)
                   << " " << StateFormatName(format.state) << ", " << bad
                   << ", " << ranks << " ranks, stage " << stage);
      ExpectSameBits(c, TrainUnchecked(c), expected);
    }
  }
}

TEST(UncheckedGradientsTest, ANanTakesItsWholeBlockAndNoOther) {
  for (int ranks : {1, 2, 3, 5}) {
    TrainingCase c = Unchecked(Algorithm::kAdamMini, kPlain, ranks);
    Spoil(c, kNan);
    RunRanks(ranks, [&](int, Communicator& group) {
      Replica replica(c.specs);
      ASSERT_OK_AND_ASSIGN(auto optimizer,
                           MakeOptimizer(c.options, replica.specs(), group));
      // Otherwise this tests nothing.
      EXPECT_EQ(optimizer->plan().split_blocks.empty(), ranks == 1);
    });
    const TrainingResult got = TrainUnchecked(c);
    const auto nans = [&](int p) {
      const std::vector<std::string> bits = Bits(got.weights[p]);
      return std::count(bits.begin(), bits.end(), "nan");
    };
    EXPECT_EQ(nans(0), 64 * 8);  // The whole tensor,
    EXPECT_EQ(nans(1), 4 * 8);   // a head,
    EXPECT_EQ(nans(2), 8);       // a row,
    EXPECT_EQ(nans(3), 1);       // an element.
    EXPECT_THAT(got.norms, testing::Each(testing::IsNan()));
  }
}

TEST(UncheckedGradientsTest, AreTheSameOnAnyRanks) {
  for (Algorithm algorithm :
       {Algorithm::kAdamMini, Algorithm::kAdamW, Algorithm::kSgd}) {
    for (float bad : {kNan, kInfinity, -kInfinity}) {
      ExpectAnyRanksGiveTheBitsOfOne(algorithm, kPlain, bad);
    }
  }
}

TEST(UncheckedGradientsTest, AreTheSameOnAnyRanksInCodedFormats) {
  for (const Format& format :
       {Format{DType::kBFloat16, MasterFormat::kFloat32, StateFormat::kFloat32},
        Format{DType::kFloat32, MasterFormat::kNone, StateFormat::kBFloat16},
        Format{DType::kBFloat16, MasterFormat::kRemainder8,
               StateFormat::kInt8}}) {
    for (float bad : {kNan, kInfinity}) {
      ExpectAnyRanksGiveTheBitsOfOne(Algorithm::kAdamMini, format, bad);
      ExpectAnyRanksGiveTheBitsOfOne(Algorithm::kAdamW, format, bad);
    }
  }
}

// State in fp32 beside 16-bit weights is that of fp32 weights.
TEST(UncheckedGradientsTest, FillTheSameStateWhateverWeightsAre) {
  for (float bad : {kNan, kInfinity}) {
    TrainingCase plain = Unchecked(Algorithm::kAdamMini, kPlain, 1);
    TrainingCase coded = Unchecked(
        Algorithm::kAdamMini,
        {DType::kBFloat16, MasterFormat::kFloat32, StateFormat::kFloat32}, 3);
    Spoil(plain, bad);
    Spoil(coded, bad);
    const TrainingResult a = TrainUnchecked(plain);
    const TrainingResult b = TrainUnchecked(coded);
    for (size_t p = 0; p < plain.specs.size(); ++p) {
      EXPECT_EQ(Bits(a.states[p].momentum), Bits(b.states[p].momentum));
      EXPECT_EQ(Bits(a.states[p].second_moment),
                Bits(b.states[p].second_moment));
    }
  }
}

// Checked ones beside a limit are refused by name, on any number of ranks, and
// ignoring them there is refused before any step.
TEST(UncheckedGradientsTest, AreRefusedBesideALimit) {
  const char* const kLimits[] = {"max_grad_norm is 1",
                                 "skip_above_grad_norm is 1e+09",
                                 "max_grad_value is 1"};
  for (int ranks : {1, 2, 5}) {
    for (int what : {0, 1, 2}) {
      TrainingCase c = Unchecked(Algorithm::kAdamMini, kPlain, ranks);
      c.options.max_grad_norm = what == 0 ? 1 : 0;
      c.options.skip_above_grad_norm = what == 1 ? 1e9 : 0;
      c.options.max_grad_value = what == 2 ? 1 : 0;
      Spoil(c, kNan);
      RunRanks(ranks, [&](int, Communicator& group) {
        Replica replica(c.specs);
        EXPECT_THAT(
            Optimizer::Create(c.options, replica.specs(), group),
            StatusIs(absl::StatusCode::kInvalidArgument,
                     testing::AllOf(testing::HasSubstr(kLimits[what]),
                                    testing::HasSubstr("kError or kSkip"))));
      });
      c.options.non_finite = NonFiniteGradients::kError;
      RunRanks(ranks, [&](int rank, Communicator& group) {
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        ASSERT_OK(GiveGradients(c, *optimizer, 2, rank));
        EXPECT_THAT(optimizer->Step({0.01}),
                    StatusIs(absl::StatusCode::kInvalidArgument,
                             testing::HasSubstr("'tall' is not finite")));
      });
    }
  }
}

}  // namespace
}  // namespace zeromini
