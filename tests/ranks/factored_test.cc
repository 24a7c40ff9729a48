// Second moments that are factored or shared by columns: what they are, and
// that any number of ranks has the same.

#include <cmath>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

TrainingCase Case(std::vector<ParamSpec> specs, int ranks) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.absent_gradients = AbsentGradients::kSkip;
  c.specs = std::move(specs);
  c.ranks = ranks;
  return c;
}

ParamSpec Padded(ParamSpec spec, int64_t rows) {
  spec.padding_rows = rows;
  return spec;
}

ParamSpec OutputLast(ParamSpec spec) {
  spec.output_is_last = true;
  return spec;
}

// Rows in groups, padding, a matrix that one rank has all of, slices.
std::vector<ParamSpec> Matrices() {
  std::vector<ParamSpec> specs = {
      Padded(Spec("tall", {1024, 3}, BlockRule::Factored(), 0), 19),
      Spec("odd", {517, 2}, BlockRule::Factored(), 0),
      Spec("columns", {512, 4}, BlockRule::Columns(), 1),
      Spec("one_row", {1, 9}, BlockRule::Factored(), 1),
      Spec("stack", {3, 520, 2}, BlockRule::Factored(), 1)};
  specs.back().slices = 3;
  return specs;
}

class FactoredRanksTest : public testing::TestWithParam<int> {};

TEST_P(FactoredRanksTest, EveryNumberOfRanksGivesTheBitsOfOne) {
  const TrainingCase one = Case(Matrices(), 1);
  const TrainingResult expected = Train(one);
  for (int stage : {1, 2, 3}) {
    for (BlockCuts cuts : {BlockCuts::kWhole, BlockCuts::kSplitAtCuts}) {
      TrainingCase many = Case(Matrices(), GetParam());
      many.options.stage = stage;
      many.options.memory = MemoryForm::kFlat;
      many.options.blocks = cuts;
      ExpectSameTraining(one, Train(many), expected);
    }
  }
}

// Sums of squares from 2^-284 to 2^100 in one column.
TEST_P(FactoredRanksTest, GradientsOfAllSizesGiveTheBitsOfOneRank) {
  const auto spread = [](int, int, int, std::vector<float>* gradient) {
    for (size_t i = 0; i < gradient->size(); ++i) {
      (*gradient)[i] =
          std::ldexp((*gradient)[i], static_cast<int>(Mix(i) % 185) - 130);
    }
    return true;
  };
  TrainingCase one = Case(Matrices(), 1);
  one.edit = spread;
  TrainingCase many = Case(Matrices(), GetParam());
  many.edit = spread;
  ExpectSameTraining(one, Train(many), Train(one));
}

INSTANTIATE_TEST_SUITE_P(All, FactoredRanksTest,
                         testing::Values(1, 2, 3, 5, 8));

struct Moments {
  std::vector<double> rows;
  std::vector<double> columns;
};

// By the definition, in double: after one step with weight decay 0.
TEST(FactoredTest, AFirstStepMovesByTheFormula) {
  constexpr int64_t kRows = 6;
  constexpr int64_t kColumns = 5;
  TrainingCase c =
      Case({Spec("matrix", {kRows, kColumns}, BlockRule::Factored(), 0)}, 2);
  c.steps = 1;
  std::vector<float> sum(kRows * kColumns);
  c.edit = [&](int, int, int rank, std::vector<float>* gradient) {
    for (size_t i = 0; i < sum.size() && rank == 0; ++i) {
      sum[i] = std::ldexp(static_cast<float>(Mix(i) % 61) - 30, -4);
      (*gradient)[i] = sum[i];
    }
    return rank == 0;
  };
  c.options.max_grad_norm = 0;
  const TrainingResult got = Train(c);
  const HyperGroup& hyper = c.options.hyper_groups[0];
  Moments v = {std::vector<double>(kRows), std::vector<double>(kColumns)};
  double mean = 0;
  for (int64_t i = 0; i < kRows; ++i) {
    for (int64_t j = 0; j < kColumns; ++j) {
      const double g = sum[i * kColumns + j];
      v.rows[i] += (1 - hyper.beta2) * g * g / kColumns;
      v.columns[j] += (1 - hyper.beta2) * g * g / kRows;
      mean += (1 - hyper.beta2) * g * g / (kRows * kColumns);
    }
  }
  for (int64_t i = 0; i < kRows; ++i) {
    EXPECT_NEAR(got.states[0].second_moment[i], v.rows[i], 1e-6 * v.rows[i]);
    for (int64_t j = 0; j < kColumns; ++j) {
      const int64_t at = i * kColumns + j;
      const double root =
          std::sqrt(v.rows[i] * v.columns[j] / mean / (1 - hyper.beta2));
      const double weight =
          InitialWeight(0, at) * (1 - c.learning_rate * hyper.weight_decay) -
          c.learning_rate * sum[at] / (root + hyper.epsilon);
      EXPECT_NEAR(got.weights[0][at], weight, 1e-6);
    }
  }
  for (int64_t j = 0; j < kColumns; ++j) {
    EXPECT_NEAR(got.states[0].second_moment[kRows + j], v.columns[j],
                1e-6 * v.columns[j]);
  }
}

TEST(FactoredTest, ColumnsOfWhatIsStoredInOutAreItsRows) {
  TrainingCase rows = Case({Spec("m", {12, 7}, BlockRule::Rows(), 0)}, 3);
  TrainingCase columns = rows;
  columns.specs = {OutputLast(Spec("m", {12, 7}, BlockRule::Columns(), 0))};
  ExpectSameTraining(rows, Train(columns), Train(rows));
}

// More of them than there are inputs.
TEST(FactoredTest, PaddingRowsOfWhatIsStoredInOutAreItsLastColumns) {
  for (const BlockRule& rule : {BlockRule::Columns(), BlockRule::Factored()}) {
    TrainingCase padded =
        Case({Padded(OutputLast(Spec("m", {3, 44}, rule, 0)), 4)}, 2);
    padded.steps = 1;
    padded.options.max_grad_norm = 0;
    padded.edit = [](int, int, int rank, std::vector<float>* gradient) {
      for (size_t i = 0; i < gradient->size(); ++i) {
        (*gradient)[i] = i % 44 < 40 ? 1.0f + static_cast<float>(i / 44) : 0;
      }
      return rank == 0;
    };
    const TrainingResult got = Train(padded);
    const double weight = 1 - padded.options.hyper_groups[0].beta2;
    const std::vector<float>& moments = got.states[0].second_moment;
    ASSERT_EQ(moments.size(), rule.kind == BlockRule::Kind::kColumns ? 3 : 47);
    for (int64_t in = 0; in < 3; ++in) {
      const double square = double((in + 1) * (in + 1)) * weight;
      EXPECT_NEAR(moments[moments.size() - 3 + in], square, 1e-6 * square);
    }
  }
}

TEST(FactoredTest, PaddingRowsStayOutOfTheAveragesOfColumns) {
  TrainingCase plain = Case({Spec("m", {40, 7}, BlockRule::Factored(), 0)}, 2);
  TrainingCase padded = plain;
  padded.specs = {Padded(Spec("m", {44, 7}, BlockRule::Factored(), 0), 4)};
  padded.edit = [](int, int, int, std::vector<float>* gradient) {
    std::fill(gradient->begin() + 40 * 7, gradient->end(), 0.0f);
    return true;
  };
  const TrainingResult want = Train(plain);
  const TrainingResult got = Train(padded);
  for (int64_t i = 0; i < 40 * 7; ++i) {
    ASSERT_EQ(got.weights[0][i], want.weights[0][i]) << i;
  }
}

// Whatever makes no update: what was summed is of no later step.
TEST(FactoredTest, AStepThatIsSkippedLeavesNothingInTheSumsOfColumns) {
  for (double max_grad_value : {0.0, 0.1}) {
    TrainingCase skips = Case(Matrices(), 3);
    skips.options.non_finite = NonFiniteGradients::kSkip;
    skips.options.max_grad_value = max_grad_value;
    skips.wait = false;
    skips.steps = 3;
    skips.edit = [](int param, int step, int rank,
                    std::vector<float>* gradient) {
      if (step != 2) return true;
      for (float& g : *gradient) g = std::ldexp(g, 40);
      if (param == 1 && rank == 1) (*gradient)[7] = std::nanf("");
      return true;
    };
    TrainingCase without = skips;
    without.steps = 2;
    without.edit = [](int param, int step, int rank,
                      std::vector<float>* gradient) {
      for (size_t i = 0; i < gradient->size() && step == 2; ++i) {
        (*gradient)[i] = GradientPart(param, int64_t(i), 3, rank, 3);
      }
      return true;
    };
    ExpectSameTraining(skips, Train(skips), Train(without));
  }
}

// Of squares beyond fp32 at that.
TEST(FactoredTest, GradientsThatAreFiniteLeaveWeightsFinite) {
  TrainingCase c = Case(Matrices(), 2);
  c.edit = [](int param, int step, int rank, std::vector<float>* gradient) {
    if (step == 2 && rank == 0) (*gradient)[5] = param % 2 == 0 ? 3e20f : 1e30f;
    if (param == 3) std::fill(gradient->begin(), gradient->begin() + 4, 0.0f);
    return true;
  };
  c.options.max_grad_norm = 0;
  c.options.non_finite = NonFiniteGradients::kSkip;
  for (const std::vector<float>& weights : Train(c).weights) {
    for (float w : weights) ASSERT_TRUE(std::isfinite(w)) << w;
  }
}

// Padding is of outputs, whichever dimension they are.
TEST(FactoredTest, PaddingOfWhatIsStoredInOutStaysOutOfTheAverages) {
  for (const BlockRule& rule : {BlockRule::Columns(), BlockRule::Factored()}) {
    TrainingCase out_in = Case({Padded(Spec("m", {9, 4}, rule, 0), 5)}, 2);
    out_in.options.max_grad_norm = 0;
    out_in.options.hyper_groups[0].weight_decay = 0;  // They begin elsewhere.
    out_in.edit = [](int, int, int, std::vector<float>* gradient) {
      std::fill(gradient->begin() + 4 * 4, gradient->end(), 0.0f);
      return true;
    };
    TrainingCase in_out = out_in;
    in_out.specs = {OutputLast(Padded(Spec("m", {4, 9}, rule, 0), 5))};
    in_out.edit = [&](int p, int step, int rank, std::vector<float>* gradient) {
      for (int64_t i = 0; i < 4; ++i) {
        for (int64_t o = 0; o < 9; ++o) {
          (*gradient)[i * 9 + o] =
              o < 4 ? GradientPart(p, o * 4 + i, step, rank, 2) : 0;
        }
      }
      return true;
    };
    const TrainingResult want = Train(out_in);
    const TrainingResult got = Train(in_out);
    for (int64_t i = 0; i < 4 * 4; ++i) {
      const int64_t out = i / 4, in = i % 4;
      const auto moved = [](const TrainingResult& result, int64_t at) {
        return result.weights[0][at] - InitialWeight(0, at);
      };
      ASSERT_NEAR(moved(got, in * 9 + out), moved(want, i), 1e-4) << i;
    }
  }
}

// Two steps; between them, unless `bad` is 0, one with that in an element on
// rank 1, which must leave nothing behind.
TrainingResult TrainPast(const TrainingCase& clean, float bad) {
  TrainingCase spoiled = clean;
  spoiled.edit = [bad](int param, int, int rank, std::vector<float>* gradient) {
    if (param == 0 && rank == 1) (*gradient)[5] = bad;
    return true;
  };
  std::vector<TrainingResult> results(clean.ranks);
  RunRanks(clean.ranks, [&](int rank, Communicator& group) {
    Replica replica(clean.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(clean.options, replica.specs(), group));
    ASSERT_OK(FillWeights(clean, replica, *optimizer));
    for (int step : {1, 2}) {
      ASSERT_OK(GiveGradients(clean, *optimizer, step, rank));
      ASSERT_OK(optimizer->Step({0.01}));
      if (step == 2 || bad == 0) continue;
      ASSERT_OK(GiveGradients(spoiled, *optimizer, 7, rank));
      const auto report = optimizer->Step({0.01});
      EXPECT_TRUE(!report.ok() || report->skipped);
    }
    for (int p = 0; p < int(clean.specs.size()); ++p) {
      results[rank].weights.emplace_back();
      ASSERT_OK_AND_ASSIGN(results[rank].weights.back(),
                           ReadWeights(clean, p, replica, *optimizer));
      results[rank].states.emplace_back();
      ASSERT_OK_AND_ASSIGN(results[rank].states.back(),
                           optimizer->ConsolidatedState(p));
    }
    ASSERT_OK(optimizer->Close());
  });
  return results[0];
}

TEST(FactoredTest, AStepThatIsNotFiniteLeavesNothingBehind) {
  for (int stage : {1, 2, 3}) {
    TrainingCase c = Case(Matrices(), 3);
    c.options.stage = stage;
    c.options.memory = MemoryForm::kFlat;
    const TrainingResult want = TrainPast(c, 0);
    for (auto policy :
         {NonFiniteGradients::kError, NonFiniteGradients::kSkip}) {
      c.options.non_finite = policy;
      for (float bad : {NAN, INFINITY}) {
        ExpectSameTraining(c, TrainPast(c, bad), want);
      }
    }
  }
}

TEST(FactoredTest, AnAbsentGradientLeavesRowsAndColumnsAsTheyWere) {
  TrainingCase twice = Case({Spec("m", {16, 4}, BlockRule::Factored(), 0),
                             Spec("other", {16, 4}, BlockRule::Factored(), 0)},
                            2);
  twice.steps = 2;
  TrainingCase absent = twice;
  absent.edit = [](int param, int step, int, std::vector<float>*) {
    return param == 1 || step == 1;
  };
  TrainingCase once = twice;
  once.steps = 1;
  const TrainingResult got = Train(absent);
  const TrainingResult first = Train(once);
  EXPECT_EQ(got.states[0].second_moment, first.states[0].second_moment);
  EXPECT_EQ(got.weights[0], first.weights[0]);
  EXPECT_EQ(got.states[1].second_moment, Train(twice).states[1].second_moment);
}

}  // namespace
}  // namespace zeromini
