// Ranks that have some of a matrix's rows, and what they agree on.

#ifndef ZEROMINI_TESTS_KERNELS_COLUMN_RANKS_H_
#define ZEROMINI_TESTS_KERNELS_COLUMN_RANKS_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/kernels/run_kernel.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/kernels.h"

namespace zeromini {

struct Matrix {
  int64_t groups;
  int64_t group_rows;
  int64_t columns;
  std::vector<float> gradient;  // [groups*group_rows, columns]

  int64_t rows() const { return groups * group_rows; }
};

// The sums of one rank, of a matrix whose columns are at `at` among others.
struct ColumnRank {
  ColumnRank(const Matrix& matrix, int64_t first = 0, int64_t others = 0)
      : at(first),
        digits(3 * (first + matrix.columns + others)),
        tops(first + matrix.columns + others) {}

  ColumnSums sums() {
    return {digits.data(), tops.data(), static_cast<int64_t>(tops.size())};
  }

  void Add(const KernelTable& table, const Matrix& matrix, int64_t group,
           int64_t groups, bool counts = true) {
    SumSpan span = {group * matrix.group_rows * matrix.columns,
                    groups * matrix.group_rows, matrix.columns};
    span.param_word = ParamWord(0);
    span.columns_at = at;
    span.group_rows = matrix.group_rows;
    RunKernel(table.statistics, {matrix.gradient.data(), &span, 1, nullptr,
                                 words.data(), true, counts, sums()});
  }

  int64_t at;
  std::vector<int64_t> digits;
  std::vector<uint8_t> tops;
  std::vector<int64_t> words = std::vector<int64_t>(ScalarWords(1, 0));
};

struct AgreedColumns {
  std::vector<uint8_t> tops;
  std::vector<int64_t> words;

  bool operator==(const AgreedColumns&) const = default;
};

inline ColumnArgs ColumnArgsOf(const ColumnMatrix& matrix, ColumnSums sums,
                               AgreedColumns& agreed) {
  return {&matrix, 1,       sums,   agreed.tops.data(), agreed.words.data(),
          nullptr, nullptr, nullptr};
}

// The maximum of tops, then the sum of words.
inline AgreedColumns Agree(const KernelTable& table, const Matrix& matrix,
                           std::vector<ColumnRank>& ranks) {
  const AgreedColumns zero = {std::vector<uint8_t>(matrix.columns),
                              std::vector<int64_t>(matrix.columns)};
  AgreedColumns agreed = zero;
  for (ColumnRank& rank : ranks) {
    const ColumnMatrix shape = {matrix.columns, matrix.rows(), rank.at};
    AgreedColumns own = zero;
    RunKernel(table.column_tops, ColumnArgsOf(shape, rank.sums(), own));
    for (int64_t j = 0; j < matrix.columns; ++j) {
      agreed.tops[j] = std::max(agreed.tops[j], own.tops[j]);
    }
  }
  for (ColumnRank& rank : ranks) {
    const ColumnMatrix shape = {matrix.columns, matrix.rows(), rank.at};
    AgreedColumns own = {agreed.tops, zero.words};
    RunKernel(table.column_words, ColumnArgsOf(shape, rank.sums(), own));
    for (int64_t j = 0; j < matrix.columns; ++j) {
      agreed.words[j] += own.words[j];
    }
  }
  return agreed;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_KERNELS_COLUMN_RANKS_H_
