// The sums of squares of a bucket's gradient. Bound by memory: all that is done
// with row sums is done while they are in the first-level cache.

#include <algorithm>
#include <cmath>

#include "kernels/cpu/level.h"
#include "kernels/host_columns.h"
#include "zeromini/internal/scalar_words.h"

namespace zeromini {
namespace {

constexpr int64_t kRowsAtOnce = 1024;

// Adds the finite ones to `sum`, unless it is null. Returns the sum of the
// others: NaN, infinity, or 0 if there are none.
double AddFinite(const double* row_sums, int64_t rows, ExactSum* sum) {
  double not_finite = 0;
  for (int64_t r = 0; r < rows; ++r) {
    if (!std::isfinite(row_sums[r])) {
      not_finite += row_sums[r];
    } else if (sum != nullptr) {
      sum->Add(row_sums[r]);
    }
  }
  return not_finite;
}

bool AllFinite(const float* gradient, int64_t elements) {
  bool finite = true;
  for (int64_t i = 0; i < elements; ++i) finite &= std::isfinite(gradient[i]);
  return finite;
}

// Rows of one element are their own sums. True if all are finite.
bool AddElements(const float* gradient, int64_t elements, ExactSum* norm) {
  return norm == nullptr ? AllFinite(gradient, elements)
                         : norm->AddSquares(gradient, elements);
}

// The blocks of one span, whose rows come in order.
class BlockSums {
 public:
  BlockSums(int64_t rows_per_block, double* sums)
      : rows_per_block_(rows_per_block),
        missing_(rows_per_block),
        summer_(rows_per_block),
        next_(sums) {}

  void Add(const double* row_sums, int64_t rows) {
    if (rows_per_block_ == 1) {
      next_ = std::copy_n(row_sums, rows, next_);
      return;
    }
    for (int64_t r = 0; r < rows; ++r) {
      summer_.Add(row_sums[r]);
      if (--missing_ > 0) continue;
      *next_++ = summer_.Take();
      missing_ = rows_per_block_;
    }
  }

 private:
  const int64_t rows_per_block_;
  int64_t missing_;  // Rows of the block at hand.
  BlockSummer summer_;
  double* next_;
};

void AddSplit(ExactSum& sum, double not_finite, int64_t* words) {
  sum.AddTo(words);
  if (not_finite == 0) return;
  words[kSplitNotFiniteWord] += std::isnan(not_finite) ? kNotFiniteUnit : 1;
}

// The sums of some rows of a span, and those of its columns beside them.
class RowsOfSpan {
 public:
  RowsOfSpan(const StatisticsArgs& args, const SumSpan& span,
             const RowSummers& summers)
      : args_(args), span_(span), summers_(summers) {
    if (!TakesColumns(args, span)) return;
    if (span.group_rows <= kBandRows) {
      rows_at_once_ -= kRowsAtOnce % span.group_rows;
      with_columns_ = true;
    } else {
      AddColumns(ColumnRows(args, span, 0, span.rows), 0);
    }
  }

  int64_t rows_at_once() const { return rows_at_once_; }

  void Sum(int64_t first_row, int64_t rows, double* sums) const {
    ColumnRowsArgs part = ColumnRows(args_, span_, first_row, rows);
    if (with_columns_) {
      part.row_sums = sums;
      summers_.column_row_sums(part);
    } else {
      summers_.row_sums({part.gradient, rows, part.row_elements, sums});
    }
  }

 private:
  const StatisticsArgs& args_;
  const SumSpan& span_;
  const RowSummers& summers_;
  int64_t rows_at_once_ = kRowsAtOnce;
  bool with_columns_ = false;
};

// True if all are finite.
bool AddRows(const StatisticsArgs& args, const SumSpan& span,
             const RowSummers& summers, ExactSum* norm) {
  const RowsOfSpan rows_of_span(args, span, summers);
  const bool splits = span.split_words >= 0;
  const bool has_blocks = !splits && span.rows_per_block > 0;
  BlockSums blocks(span.rows_per_block, args.block_sums + span.sums_at);
  ExactSum split;
  double not_finite = 0;
  double sums[kRowsAtOnce];
  for (int64_t row = 0; row < span.rows; row += rows_of_span.rows_at_once()) {
    const int64_t rows = std::min(rows_of_span.rows_at_once(), span.rows - row);
    rows_of_span.Sum(row, rows, sums);
    not_finite += AddFinite(sums, rows, norm);
    if (has_blocks) blocks.Add(sums, rows);
    if (splits && args.counts) AddFinite(sums, rows, &split);
  }
  if (splits && args.counts) {
    AddSplit(split, not_finite, args.words + span.split_words);
  }
  return not_finite == 0;
}

}  // namespace

void AddStatistics(const StatisticsArgs& args, const RowSummers& summers) {
  ExactSum norm;
  ExactSum* const counted = args.norm && args.counts ? &norm : nullptr;
  for (int64_t s = 0; s < args.count; ++s) {
    const SumSpan& span = args.spans[s];
    const bool single_elements = span.row_elements == 1 &&
                                 span.rows_per_block == 0 &&
                                 span.split_words < 0 && span.columns_at < 0;
    const bool finite = single_elements
                            ? AddElements(args.gradient + span.first_element,
                                          span.rows, counted)
                            : AddRows(args, span, summers, counted);
    if (!finite) args.words[span.param_word] += kNotFiniteUnit;
  }
  if (counted != nullptr) norm.AddTo(args.words);
}

}  // namespace zeromini
