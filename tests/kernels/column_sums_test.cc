#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/column_sum.h"
#include "kernels/exact_sum.h"
#include "tests/kernels/column_ranks.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/levels.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

constexpr int kKinds = 8;

// A float of any finite bits.
float AnyFloat(uint64_t bits) {
  const auto exponent = static_cast<uint32_t>(bits % 255);
  const auto sign_and_fraction = static_cast<uint32_t>(bits >> 32) & 0x807fffff;
  const uint32_t word = sign_and_fraction | exponent << 23;
  float value;
  std::memcpy(&value, &word, sizeof(value));
  return value;
}

float Element(uint64_t seed, int64_t row, int64_t rows, int64_t column) {
  const uint64_t bits = RandomBits(seed, row * 5000 + column);
  const float plain = RandomFloat(seed, row * 5000 + column);
  const int fraction = static_cast<int>(row * 240 / rows);
  switch (column % kKinds) {
    case 0:  // Nothing at all.
      return 0;
    case 1:  // What a gradient is like.
      return plain;
    case 2:
      return AnyFloat(bits);
    case 3:  // Nearly nothing.
      return static_cast<float>(bits % 3) *
             std::numeric_limits<float>::denorm_min();
    case 4:
      return std::numeric_limits<float>::max();
    case 5:  // One row only.
      return row == rows / 2 ? plain : 0;
    case 6:  // Tops that rise all the time.
      return std::ldexp(plain, fraction - 120);
    default:  // And that do not.
      return std::ldexp(plain, 119 - fraction);
  }
}

Matrix AllKinds(uint64_t seed, int64_t groups, int64_t group_rows,
                int64_t columns) {
  Matrix matrix = {groups, group_rows, columns, {}};
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    for (int64_t j = 0; j < columns; ++j) {
      matrix.gradient.push_back(Element(seed, row, matrix.rows(), j));
    }
  }
  return matrix;
}

// Several strips with a tail, several bands of rows with part of one, groups
// larger than a band, more rows than are summed at once, rows of one element.
std::vector<Matrix> Matrices() {
  return {AllKinds(1, 9, 8, 1100), AllKinds(2, 40, 1, 37),
          AllKinds(3, 25, 3, 16),  AllKinds(4, 5, 33, 41),
          AllKinds(5, 7, 32, 512), AllKinds(6, 2, 1030, 10),
          AllKinds(7, 700, 3, 5),  {50, 2, 1, AllKinds(8, 50, 2, 3).gradient}};
}

std::vector<const KernelTable*> AllTables() {
  std::vector<const KernelTable*> tables = AttainableTables();
  tables.push_back(&ReferenceKernels());
  return tables;
}

class ColumnSumsTest : public testing::TestWithParam<int> {
 protected:
  const KernelTable& kernels() const { return *AllTables()[GetParam()]; }

  AgreedColumns OfOneRank(const Matrix& matrix) const {
    std::vector<ColumnRank> ranks(1, ColumnRank(matrix));
    ranks[0].Add(kernels(), matrix, 0, matrix.groups);
    return Agree(kernels(), matrix, ranks);
  }

  // Runs of groups go to ranks by chance, each run in a call of its own.
  AgreedColumns OfRanks(const Matrix& matrix, int count, uint64_t seed) const {
    std::vector<ColumnRank> ranks;
    for (int r = 0; r < count; ++r) ranks.emplace_back(matrix, 5 * r, r % 2);
    uint64_t drawn = 0;
    for (int64_t group = 0; group < matrix.groups;) {
      const auto longest = static_cast<int64_t>(
          1 + RandomBits(seed, drawn++) % (1 + matrix.groups / 3));
      const int64_t groups = std::min(longest, matrix.groups - group);
      ranks[RandomBits(seed, drawn++) % count].Add(kernels(), matrix, group,
                                                   groups);
      group += groups;
    }
    return Agree(kernels(), matrix, ranks);
  }
};

std::vector<double> AddendsOf(const Matrix& matrix, int64_t column) {
  std::vector<double> addends;
  for (int64_t row = 0; row < matrix.rows(); ++row) {
    if (row % matrix.group_rows == 0) addends.push_back(0);
    const double g = matrix.gradient[row * matrix.columns + column];
    addends.back() += g * g;
  }
  return addends;
}

TEST_P(ColumnSumsTest, WordsAreWholeUnitsOfTheAddends) {
  for (const Matrix& matrix : Matrices()) {
    const AgreedColumns actual = OfOneRank(matrix);
    for (int64_t j = 0; j < matrix.columns; ++j) {
      const std::vector<double> addends = AddendsOf(matrix, j);
      const double largest = *std::max_element(addends.begin(), addends.end());
      if (largest == 0) {
        ASSERT_EQ(actual.tops[j], 0);
        ASSERT_EQ(actual.words[j], 0);
        continue;
      }
      // The unit is the power of 2^15, from 2^-300 on, that leaves the largest
      // addend 31 to 45 bits.
      const int leading = (std::ilogb(largest) + 300) / 15;
      const int unit = 15 * (leading - 2) - 300;
      double sum = 0;
      for (double addend : addends) {
        sum += std::floor(std::ldexp(addend, -unit));
      }
      // Six digits more, for what addends may be divided by.
      ASSERT_EQ(actual.tops[j], leading + 6 + 1) << j;
      ASSERT_EQ(static_cast<double>(actual.words[j]), sum) << j;
    }
  }
}

TEST_P(ColumnSumsTest, AnyRanksWithAnyGroupsHaveTheWordsOfOne) {
  uint64_t seed = 100;
  for (const Matrix& matrix : Matrices()) {
    const AgreedColumns expected = OfOneRank(matrix);
    for (int ranks : {1, 2, 3, 5}) {
      for (int draw = 0; draw < 5; ++draw) {
        EXPECT_EQ(OfRanks(matrix, ranks, ++seed), expected)
            << ranks << " ranks, rows of " << matrix.columns;
      }
    }
  }
}

// Of each addend less than 2^-30 of the largest is lost.
TEST_P(ColumnSumsTest, SumsAreBelowExactOnesByLessThanAUnitAnAddend) {
  for (const Matrix& matrix : Matrices()) {
    const AgreedColumns actual = OfOneRank(matrix);
    for (int64_t j = 0; j < matrix.columns; ++j) {
      if (actual.tops[j] == 0) continue;
      ExactSum exact;
      double largest = 0;
      for (double addend : AddendsOf(matrix, j)) {
        exact.Add(addend);
        largest = std::max(largest, addend);
      }
      const double sum = std::ldexp(static_cast<double>(actual.words[j]),
                                    ColumnUnitExponent(actual.tops[j], 0));
      const double lost = exact.Rounded() - sum;
      ASSERT_GE(lost, -std::ldexp(sum, -53));
      ASSERT_LT(lost, std::ldexp(largest, -30) * matrix.groups) << j;
    }
  }
}

TEST_P(ColumnSumsTest, ARankWhoseTopIsLowerDropsSoManyDigits) {
  const float one = std::ldexp(1.4f, 30);
  for (int by = 0; by < 6; ++by) {
    const float other = std::ldexp(one, 15 * by / 2 + by % 2);
    const Matrix matrix = {2, 1, 1, {one, other}};
    std::vector<ColumnRank> ranks(2, ColumnRank(matrix));
    for (int r = 0; r < 2; ++r) ranks[r].Add(kernels(), matrix, r, 1);
    const AgreedColumns agreed = Agree(kernels(), matrix, ranks);
    EXPECT_EQ(agreed, OfOneRank(matrix)) << by;
    const int unit = ColumnUnitExponent(agreed.tops[0], 0);
    const double of_one =
        std::floor(std::ldexp(static_cast<double>(one) * one, -unit));
    const double of_other =
        std::floor(std::ldexp(static_cast<double>(other) * other, -unit));
    EXPECT_EQ(agreed.words[0], of_one + of_other) << by;
    EXPECT_EQ(of_one == 0, by >= 3) << by;
  }
}

TEST_P(ColumnSumsTest, WhatIsNotFiniteIsOfItsColumnOnly) {
  const float infinity = std::numeric_limits<float>::infinity();
  const Matrix clean = AllKinds(9, 12, 8, 37);
  const AgreedColumns expected = OfRanks(clean, 3, 1);
  for (float bad : {infinity, -infinity, std::nanf("")}) {
    for (int64_t column : {0, 4, 17, 36}) {
      for (int64_t row : {0, 50, 95}) {
        Matrix matrix = clean;
        matrix.gradient[row * 37 + column] = bad;
        const AgreedColumns actual = OfRanks(matrix, 3, 1);
        for (int64_t j = 0; j < 37; ++j) {
          const bool finite = j != column;
          ASSERT_EQ(actual.tops[j],
                    finite ? expected.tops[j] : kColumnNotFinite);
          ASSERT_EQ(actual.words[j], finite ? expected.words[j] : 0);
        }
      }
    }
  }
}

TEST_P(ColumnSumsTest, WordsLeaveNothingBehind) {
  const Matrix matrix = AllKinds(10, 6, 8, 40);
  std::vector<ColumnRank> ranks(2, ColumnRank(matrix, 3, 2));
  ranks[0].tops[2] = ranks[0].tops[43] = 7;
  ranks[0].digits[2] = ranks[0].digits[43] = 9;
  const ColumnRank before = ranks[0];
  ranks[0].Add(kernels(), matrix, 0, 5);
  ranks[1].Add(kernels(), matrix, 5, 1);
  Agree(kernels(), matrix, ranks);
  EXPECT_EQ(ranks[0].tops, before.tops);
  EXPECT_EQ(ranks[0].digits, before.digits);
}

TEST_P(ColumnSumsTest, AnotherCopyOfTheShardAddsNoColumns) {
  const Matrix matrix = AllKinds(11, 6, 8, 40);
  ColumnRank rank(matrix);
  rank.Add(kernels(), matrix, 0, 6, /*counts=*/false);
  EXPECT_EQ(rank.tops, ColumnRank(matrix).tops);
  EXPECT_EQ(rank.digits, ColumnRank(matrix).digits);
}

TEST_P(ColumnSumsTest, AsManyAddendsAsAreAllowedFit) {
  Matrix matrix = {kMaxColumnAddends, 1, 1, {}};
  // The largest square below a power of 2^15.
  const float most = std::nextafter(std::ldexp(1.0f, 60), 0.0f);
  matrix.gradient.assign(matrix.rows(), most);
  const AgreedColumns actual = OfOneRank(matrix);
  const double addend = static_cast<double>(most) * most;
  EXPECT_EQ(
      actual.words[0],
      kMaxColumnAddends * static_cast<int64_t>(std::ldexp(
                              addend, -ColumnUnitExponent(actual.tops[0], 0))));
  EXPECT_GT(actual.words[0], int64_t{1} << 62);
}

TEST_P(ColumnSumsTest, DigitsAreThoseOfReference) {
  std::vector<Matrix> matrices = Matrices();
  matrices.push_back(AllKinds(12, 4, 8, 37));
  matrices.back().gradient[9 * 37 + 1] = std::nanf("");
  matrices.back().gradient[10 * 37 + 2] =
      std::numeric_limits<float>::infinity();
  for (const Matrix& matrix : matrices) {
    ColumnRank actual(matrix, 2, 3);
    ColumnRank expected = actual;
    actual.Add(kernels(), matrix, 0, matrix.groups);
    expected.Add(ReferenceKernels(), matrix, 0, matrix.groups);
    EXPECT_EQ(actual.tops, expected.tops);
    EXPECT_EQ(actual.digits, expected.digits);
  }
}

// With and without columns, blocks and words of the same gradient.
TEST_P(ColumnSumsTest, SumsOfRowsDoNotDependOnColumns) {
  for (const Matrix& matrix : Matrices()) {
    std::vector<double> blocks[2];
    std::vector<int64_t> words[2];
    ColumnRank rank(matrix);
    for (int with = 0; with < 2; ++with) {
      blocks[with].resize(matrix.rows());
      words[with].resize(ScalarWords(1, 0));
      SumSpan span = {0, matrix.rows(), matrix.columns, 1};
      span.param_word = ParamWord(0);
      span.columns_at = with - 1;
      span.group_rows = matrix.group_rows;
      RunKernel(kernels().statistics,
                {matrix.gradient.data(), &span, 1, blocks[with].data(),
                 words[with].data(), true, true, rank.sums()});
    }
    EXPECT_EQ(blocks[0], blocks[1]);
    EXPECT_EQ(words[0], words[1]);
  }
}

INSTANTIATE_TEST_SUITE_P(Tables, ColumnSumsTest,
                         testing::Range(0,
                                        static_cast<int>(AllTables().size())));

}  // namespace
}  // namespace zeromini
