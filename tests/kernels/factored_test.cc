#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/factored_inputs.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/levels.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

constexpr double kUlp = 1.0 / (1 << 24);  // Of a float's rounding, relative.

std::vector<const KernelTable*> AllTables() {
  std::vector<const KernelTable*> tables = AttainableTables();
  tables.push_back(&ReferenceKernels());
  return tables;
}

class FactoredTest : public testing::TestWithParam<int> {
 protected:
  const KernelTable& kernels() const { return *AllTables()[GetParam()]; }
};

double RootCorrection(const StepScalars& s) {
  return std::sqrt(1 - std::pow(s.beta2, static_cast<double>(s.step)));
}

TEST_P(FactoredTest, ColumnMomentsAverageTheMeanSquaresOfColumns) {
  Factored actual(9, 37);
  actual.Sum(kernels());
  const std::vector<float> before = actual.moments;
  actual.MoveColumns(kernels(), actual.shape());
  double mean = 0;
  for (int64_t j = 0; j < 37; ++j) {
    const double c = 0.95 * before[j] + 0.05 * actual.MeanSquare(j);
    EXPECT_NEAR(actual.moments[j], c, 2 * kUlp * c) << j;
    mean += actual.moments[j] / 37.0;
  }
  for (int64_t j = 0; j < 37; ++j) {
    const double f =
        std::sqrt(actual.moments[j] / mean) / RootCorrection(actual.scalars);
    EXPECT_NEAR(actual.factors[j], f, 2 * kUlp * f) << j;
  }
}

TEST_P(FactoredTest, PaddingRowsAreNotInTheMeans) {
  Factored all(9, 5);
  all.scalars.step = 1;
  std::fill(all.moments.begin(), all.moments.end(), 0.0f);
  for (int64_t i = 6 * 5; i < 9 * 5; ++i) all.gradient[i] = 0;
  all.Sum(kernels());
  ColumnMatrix matrix = all.shape();
  matrix.rows = 6;
  all.MoveColumns(kernels(), matrix);
  for (int64_t j = 0; j < 5; ++j) {
    const double c = 0.05 * all.MeanSquare(j) * 9 / 6;
    EXPECT_NEAR(all.moments[j], c, 2 * kUlp * c);
  }
}

TEST_P(FactoredTest, FactorsOfSecondMomentsSharedByColumnsAreTheirRoots) {
  Factored actual(4, 21);
  actual.Sum(kernels());
  ColumnMatrix matrix = actual.shape();
  matrix.factored = 0;
  actual.MoveColumns(kernels(), matrix);
  for (int64_t j = 0; j < 21; ++j) {
    const double f =
        std::sqrt(actual.moments[j]) / RootCorrection(actual.scalars);
    EXPECT_NEAR(actual.factors[j], f, 2 * kUlp * f) << j;
  }
}

TEST_P(FactoredTest, AColumnThatNeverHadAGradientHasFactorZero) {
  Factored some(3, 4);
  some.moments[2] = 0;
  for (int64_t i = 0; i < 3; ++i) some.gradient[i * 4 + 2] = 0;
  some.Sum(kernels());
  some.MoveColumns(kernels(), some.shape());
  EXPECT_EQ(some.factors[2], 0);
  EXPECT_GT(some.factors[1], 0);
  Factored none = some;  // Nor has a matrix of such columns any NaN.
  std::fill(none.moments.begin(), none.moments.end(), 0.0f);
  std::fill(none.agreed.tops.begin(), none.agreed.tops.end(), uint8_t{0});
  none.MoveColumns(kernels(), none.shape());
  EXPECT_EQ(none.factors, std::vector<float>(4, 0.0f));
}

TEST_P(FactoredTest, AColumnThatIsNotFiniteMakesItsMomentAndAllFactorsNaN) {
  Factored bad(6, 8);
  bad.gradient[8 + 3] = std::numeric_limits<float>::infinity();
  bad.Sum(kernels());
  bad.MoveColumns(kernels(), bad.shape());
  for (int64_t j = 0; j < 8; ++j) {
    EXPECT_EQ(std::isnan(bad.moments[j]), j == 3) << j;
    EXPECT_TRUE(std::isnan(bad.factors[j]) || j != 3) << j;
  }
}

// Each of two matrices has its own place, mean, count of rows and scalars.
TEST_P(FactoredTest, MatricesAreMovedEachAtItsPlaceUnlessNotUpdated) {
  Factored plain(4, 12);
  plain.Sum(kernels());
  Factored both = plain;
  const ColumnMatrix halves[] = {{5, 4, 1, 2, 1}, {6, 4, 6, 0, 0}};
  StepScalars scalars[] = {TypicalScalars(), TypicalScalars()};
  scalars[0].update = 0;
  const ColumnArgs args = {halves,
                           2,
                           {nullptr, nullptr, 12},
                           both.agreed.tops.data(),
                           both.agreed.words.data(),
                           both.moments.data(),
                           both.factors.data(),
                           scalars};
  RunKernel(kernels().column_moments, args);
  EXPECT_EQ(both.moments[0], plain.moments[0]);
  EXPECT_EQ(both.factors[0], -1);
  double mean = 0;
  for (int64_t j = 0; j < 5; ++j) {
    const double c =
        0.95 * plain.moments[1 + j] + 0.05 * plain.MeanSquare(2 + j);
    ASSERT_NEAR(both.moments[1 + j], c, 2 * kUlp * c) << j;
    mean += both.moments[1 + j] / 5.0;
  }
  for (int64_t j = 0; j < 5; ++j) {
    const double f =
        std::sqrt(both.moments[1 + j] / mean) / RootCorrection(plain.scalars);
    EXPECT_NEAR(both.factors[1 + j], f, 2 * kUlp * f);
  }
  for (int64_t j = 6; j < 12; ++j) {
    EXPECT_EQ(both.moments[j], plain.moments[j]) << j;
    EXPECT_EQ(both.factors[j], -1) << j;
  }
}

// The stated bound: see ExpectNear() of cpu_kernels_test.cc.
TEST_P(FactoredTest, StepsAreNearReference) {
  for (int64_t columns : {1, 3, 15, 16, 17, 31, 32, 33, 1000, 4101}) {
    const Factored before(5, columns);
    Factored actual = before;
    Factored expected = before;
    actual.Step(kernels());
    expected.Step(ReferenceKernels());
    const StepScalars& s = before.scalars;
    const double rate = s.learning_rate / (1 - std::pow(s.beta1, s.step));
    for (int64_t i = 0; i < 5 * columns; ++i) {
      const double terms = std::abs(before.momentum[i]) +
                           s.gradient_scale * std::abs(before.gradient[i]);
      const double root = std::sqrt(expected.row_moments[i / columns]) *
                              expected.factors[i % columns] +
                          s.epsilon;
      ASSERT_NEAR(actual.momentum[i], expected.momentum[i], 4 * kUlp * terms);
      ASSERT_NEAR(
          actual.parameter[i], expected.parameter[i],
          10 * kUlp * (std::abs(before.parameter[i]) + rate * terms / root))
          << i << " of " << columns;
    }
    for (int64_t i = 0; i < 5; ++i) {
      EXPECT_NEAR(actual.row_moments[i], expected.row_moments[i],
                  2 * kUlp * expected.row_moments[i]);
    }
  }
}

// Squares that are a product of something of the row and of the column are
// what v is in AdamW's first step.
TEST_P(FactoredTest, AFirstStepOfAGradientOfRankOneIsAdamWs) {
  Factored factored(7, 20);
  factored.scalars.step = 1;
  for (int64_t i = 0; i < 7 * 20; ++i) {
    factored.gradient[i] = static_cast<float>(
        std::ldexp((i % 3 == 0 ? -1.25 : 1.25) * (1 + i % 20), -(i / 20)));
    factored.momentum[i] = 0;
  }
  std::fill(factored.row_moments.begin(), factored.row_moments.end(), 0.0f);
  std::fill(factored.moments.begin(), factored.moments.end(), 0.0f);
  Factored adamw = factored;
  factored.Step(kernels());
  std::vector<float> v(7 * 20);
  RunKernel(kernels().adamw,
            {adamw.parameter.data(), adamw.gradient.data(),
             adamw.momentum.data(), v.data(), 7 * 20, &adamw.scalars});
  for (int64_t i = 0; i < 7 * 20; ++i) {
    EXPECT_NEAR(factored.parameter[i], adamw.parameter[i],
                4 * kUlp * (std::abs(adamw.parameter[i]) + 3e-3));
    EXPECT_EQ(factored.momentum[i], adamw.momentum[i]);
  }
}

TEST_P(FactoredTest, WithoutRowMomentsFactorsAloneDivide) {
  Factored shared(3, 40);
  Factored ones = shared;
  for (Factored* each : {&shared, &ones}) {
    for (int64_t j = 0; j < 40; ++j) {
      each->factors[j] = 0.25f + static_cast<float>(j);
    }
  }
  FactoredArgs args = shared.args();
  args.row_moments = nullptr;
  args.row_sums = nullptr;
  RunKernel(kernels().factored_step, args);
  // A moment of 1 that stays: the mean of scaled squares is 1, too.
  std::fill(ones.row_moments.begin(), ones.row_moments.end(), 1.0f);
  std::fill(ones.row_sums.begin(), ones.row_sums.end(), 40 * 16.0);
  RunKernel(kernels().factored_step, ones.args());
  EXPECT_EQ(ones.row_moments, std::vector<float>(3, 1.0f));
  EXPECT_EQ(shared.parameter, ones.parameter);
  EXPECT_EQ(shared.momentum, ones.momentum);
}

// As with AdamW, whose v is 0 there.
TEST_P(FactoredTest, WhereRowOrColumnIsZeroEpsilonAloneDivides) {
  for (bool row_is_zero : {true, false}) {
    Factored one(1, 1);
    one.momentum[0] = 0;
    one.gradient[0] = 0;
    one.row_moments[0] = row_is_zero ? 0.0f : 1.0f;
    one.factors[0] = row_is_zero ? 1.0f : 0.0f;
    one.scalars.weight_decay = 0;
    const float before = one.parameter[0];
    RunKernel(kernels().factored_step, one.args());
    EXPECT_EQ(one.parameter[0], before);
    one.scalars.epsilon = 0;  // 0 / 0.
    RunKernel(kernels().factored_step, one.args());
    EXPECT_TRUE(std::isnan(one.parameter[0]));
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, FactoredTest,
                         testing::Range(0,
                                        static_cast<int>(AllTables().size())));

TEST(FactoredLevelsTest, EveryLevelHasTheBitsOfTheLowest) {
  for (int64_t columns : {1, 15, 17, 37, 1003}) {
    Factored lowest(11, columns);
    lowest.Step(*AttainableTables()[0]);
    for (const KernelTable* table : AttainableTables()) {
      Factored actual(11, columns);
      actual.Step(*table);
      EXPECT_EQ(actual.parameter, lowest.parameter);
      EXPECT_EQ(actual.momentum, lowest.momentum);
      EXPECT_EQ(actual.row_moments, lowest.row_moments);
      EXPECT_EQ(actual.moments, lowest.moments);
      EXPECT_EQ(actual.factors, lowest.factors);
    }
  }
}

}  // namespace
}  // namespace zeromini
