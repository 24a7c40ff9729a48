#include <cmath>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/decision_formulas.h"
#include "kernels/exact_sum.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/levels.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

constexpr int kParams = 5;
constexpr int kSplits = 1;

// Blocks of seven rows across two tiles of rows, blocks of one row, rows
// without blocks, single elements, and rows of a split block.
std::vector<SumSpan> AllKinds() {
  std::vector<SumSpan> spans = {
      {0, 301 * 7, 19, 7, 0, ParamWord(0), -1},
      {0, 40, 33, 1, 301, ParamWord(1), -1},
      {0, 1030, 5, 0, 0, ParamWord(2), -1},
      {0, 77, 1, 0, 0, ParamWord(3), -1},
      {0, 1030, 16, 0, 0, ParamWord(4), SplitWords(kParams, 0)},
  };
  for (size_t s = 1; s < spans.size(); ++s) {
    spans[s].first_element = spans[s - 1].first_element +
                             spans[s - 1].rows * spans[s - 1].row_elements;
  }
  return spans;
}

// Integers below 2^12: any order of additions has the same bits.
std::vector<float> Integers() {
  const SumSpan last = AllKinds().back();
  std::vector<float> gradient(last.first_element +
                              last.rows * last.row_elements);
  for (size_t i = 0; i < gradient.size(); ++i) {
    gradient[i] = static_cast<float>(RandomBits(1, i) % 8192) - 4096;
  }
  return gradient;
}

struct Sums {
  std::vector<double> blocks = std::vector<double>(341, -1);
  std::vector<int64_t> words =
      std::vector<int64_t>(ScalarWords(kParams, kSplits), 0);

  double norm() const { return ExactSum::Round(words.data()); }
  double split() const {
    return SplitSum(words.data() + SplitWords(kParams, 0));
  }
  bool finite(int param) const { return words[ParamWord(param)] == 0; }
};

StatisticsArgs Args(const std::vector<float>& gradient,
                    const std::vector<SumSpan>& spans, Sums& sums) {
  return {gradient.data(),
          spans.data(),
          static_cast<int64_t>(spans.size()),
          sums.blocks.data(),
          sums.words.data(),
          true,
          true};
}

Sums SumsOf(const KernelTable& kernels, const std::vector<float>& gradient) {
  const std::vector<SumSpan> spans = AllKinds();
  Sums sums;
  RunKernel(kernels.statistics, Args(gradient, spans, sums));
  return sums;
}

double Plain(const std::vector<float>& gradient, int64_t begin, int64_t n) {
  double sum = 0;
  for (int64_t i = begin; i < begin + n; ++i) {
    sum += static_cast<double>(gradient[i]) * gradient[i];
  }
  return sum;
}

int64_t ElementsOf(const SumSpan& span) {
  return span.rows * span.row_elements;
}

std::vector<const KernelTable*> AllTables() {
  std::vector<const KernelTable*> tables = AttainableTables();
  tables.push_back(&ReferenceKernels());
  return tables;
}

class StatisticsTest : public testing::TestWithParam<int> {
 protected:
  const KernelTable& kernels() const { return *AllTables()[GetParam()]; }
};

TEST_P(StatisticsTest, SumsOfIntegersAreThePlainSums) {
  const std::vector<float> gradient = Integers();
  const std::vector<SumSpan> spans = AllKinds();
  const Sums sums = SumsOf(kernels(), gradient);
  const int64_t all = static_cast<int64_t>(gradient.size());
  EXPECT_EQ(sums.norm(), Plain(gradient, 0, all));
  EXPECT_EQ(sums.split(),
            Plain(gradient, spans[4].first_element, ElementsOf(spans[4])));
  for (int b = 0; b < 301; ++b) {
    ASSERT_EQ(sums.blocks[b], Plain(gradient, b * 7 * 19, 7 * 19)) << b;
  }
  for (int b = 0; b < 40; ++b) {
    ASSERT_EQ(sums.blocks[301 + b],
              Plain(gradient, spans[1].first_element + b * 33, 33));
  }
  for (int p = 0; p < kParams; ++p) EXPECT_TRUE(sums.finite(p)) << p;
  EXPECT_EQ(sums.words, SumsOf(ReferenceKernels(), gradient).words);
}

TEST_P(StatisticsTest, SumsAreNearReferenceAndExactSumsOfTheLevelsRowSums) {
  std::vector<float> gradient = Integers();
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = RandomFloat(2, i);
  const Sums sums = SumsOf(kernels(), gradient);
  const Sums expected = SumsOf(ReferenceKernels(), gradient);
  EXPECT_NEAR(sums.norm(), expected.norm(), expected.norm() * 1e-14);
  EXPECT_NEAR(sums.split(), expected.split(), expected.split() * 1e-14);
  std::vector<double> rows(7);
  for (int b = 0; b < 301; ++b) {
    RunKernel(kernels().row_sums,
              {gradient.data() + b * 7 * 19, 7, 19, rows.data()});
    ASSERT_EQ(sums.blocks[b], BlockSum(rows.data(), 7)) << b;
  }
}

TEST_P(StatisticsTest, ABadElementIsOfItsParameterAndBlockOnly) {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<SumSpan> spans = AllKinds();
  for (float bad : {infinity, -infinity, std::nanf("")}) {
    for (int p = 0; p < kParams; ++p) {
      std::vector<float> gradient = Integers();
      gradient[spans[p].first_element + 7 * spans[p].row_elements] = bad;
      const Sums sums = SumsOf(kernels(), gradient);
      for (int q = 0; q < kParams; ++q) {
        EXPECT_EQ(sums.finite(q), q != p) << bad << " in " << p;
      }
      EXPECT_EQ(std::isfinite(sums.split()), p != 4);
      EXPECT_EQ(std::isfinite(sums.blocks[1]), p != 0);
      EXPECT_EQ(std::isfinite(sums.blocks[301 + 7]), p != 1);
      EXPECT_TRUE(std::isfinite(sums.blocks[0]));
    }
  }
}

TEST_P(StatisticsTest, TheNormLeavesOutOnlyTheRowThatIsNotFinite) {
  std::vector<float> gradient = Integers();
  const int64_t at = AllKinds()[2].first_element + 5 * 1025;
  const double row = Plain(gradient, at, 5);
  const double all = SumsOf(kernels(), gradient).norm();
  gradient[at + 3] = std::nanf("");
  EXPECT_EQ(SumsOf(kernels(), gradient).norm(), all - row);
}

TEST_P(StatisticsTest, ASplitSumIsNanOnlyIfARowIs) {
  const int64_t at = AllKinds()[4].first_element;
  std::vector<float> gradient = Integers();
  for (int r = 0; r < 30; ++r) {
    gradient[at + 16 * r] = -std::numeric_limits<float>::infinity();
  }
  EXPECT_EQ(SumsOf(kernels(), gradient).split(),
            std::numeric_limits<double>::infinity());
  gradient[at + 16 * 1029] = std::nanf("");
  EXPECT_TRUE(std::isnan(SumsOf(kernels(), gradient).split()));
}

TEST_P(StatisticsTest, WithoutNormOnlyTheNormIsNotAdded) {
  const std::vector<float> gradient = Integers();
  const std::vector<SumSpan> spans = AllKinds();
  Sums expected = SumsOf(kernels(), gradient);
  Sums sums;
  StatisticsArgs args = Args(gradient, spans, sums);
  args.norm = false;
  RunKernel(kernels().statistics, args);
  EXPECT_EQ(sums.norm(), 0);
  EXPECT_EQ(sums.split(), expected.split());
  EXPECT_EQ(sums.blocks, expected.blocks);
}

TEST_P(StatisticsTest, AnotherCopyAddsOnlyWhatIsNotFinite) {
  std::vector<float> gradient = Integers();
  const std::vector<SumSpan> spans = AllKinds();
  gradient[spans[3].first_element] = std::nanf("");
  gradient[spans[4].first_element] = std::nanf("");
  Sums sums;
  StatisticsArgs args = Args(gradient, spans, sums);
  args.counts = false;
  RunKernel(kernels().statistics, args);
  EXPECT_EQ(sums.norm(), 0);
  EXPECT_EQ(sums.split(), 0);
  EXPECT_FALSE(sums.finite(3));
  EXPECT_FALSE(sums.finite(4));
  EXPECT_TRUE(sums.finite(0));
  EXPECT_EQ(sums.blocks, SumsOf(kernels(), gradient).blocks);
}

TEST_P(StatisticsTest, AddsToWhatIsInTheWords) {
  const std::vector<float> gradient = Integers();
  const std::vector<SumSpan> spans = AllKinds();
  const Sums once = SumsOf(kernels(), gradient);
  Sums sums;
  sums.words[kAgreementWord] = 12;
  sums.words[ParamWord(2)] = 3;
  for (int bucket = 0; bucket < 1000; ++bucket) {
    RunKernel(kernels().statistics, Args(gradient, spans, sums));
  }
  EXPECT_EQ(sums.norm(), 1000 * once.norm());
  EXPECT_EQ(sums.split(), 1000 * once.split());
  EXPECT_EQ(sums.words[kAgreementWord], 12);
  EXPECT_EQ(sums.words[ParamWord(2)], 3);
  // 2^30 of them must fit.
  for (int i = 0; i < kLimbWords; ++i) {
    EXPECT_LT(sums.words[i], 1000 * (int64_t{1} << 32)) << i;
  }
}

TEST_P(StatisticsTest, NoSpansAndNoRowsAddNothing) {
  Sums sums;
  RunKernel(kernels().statistics,
            {nullptr, nullptr, 0, nullptr, sums.words.data(), true, true});
  const SumSpan empty[] = {
      {0, 0, 16, 2, 0, ParamWord(0), -1},
      {0, 0, 1, 0, 0, ParamWord(1), -1},
      {0, 0, 16, 0, 0, ParamWord(2), SplitWords(kParams, 0)}};
  RunKernel(kernels().statistics,
            {nullptr, empty, 3, nullptr, sums.words.data(), true, true});
  EXPECT_EQ(sums.words, Sums().words);
}

INSTANTIATE_TEST_SUITE_P(Tables, StatisticsTest,
                         testing::Range(0,
                                        static_cast<int>(AllTables().size())));

TEST(StatisticsLevelsTest, EveryLevelHasTheBitsOfTheLowest) {
  std::vector<float> gradient = Integers();
  for (size_t i = 0; i < gradient.size(); ++i) gradient[i] = RandomFloat(3, i);
  const std::vector<const KernelTable*> tables = AttainableTables();
  const Sums lowest = SumsOf(*tables[0], gradient);
  for (const KernelTable* table : tables) {
    EXPECT_EQ(SumsOf(*table, gradient).words, lowest.words);
    EXPECT_EQ(SumsOf(*table, gradient).blocks, lowest.blocks);
  }
}

}  // namespace
}  // namespace zeromini
