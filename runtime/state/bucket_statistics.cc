// The sums of squares of a bucket's shard.

#include <algorithm>
#include <cmath>

#include "runtime/state/bucket_shard.h"

namespace zeromini {
namespace {

// Rows summed at a time: their sums stay in the first-level cache.
constexpr int64_t kRowsAtOnce = 1024;

}  // namespace

void BucketShard::SumElements(const float* gradient, int run) {
  const RunState& state = runs_[run];
  const int64_t elements = state.run->rows * state.param->wire_row_elements;
  for (int64_t i = 0; i < elements; ++i) {
    if (std::isfinite(gradient[i])) {
      norm_.AddSquare(gradient[i]);
    } else {
      finite_[run] = 0;
    }
  }
}

void BucketShard::SumRows(const KernelTable& kernels, const float* gradient,
                          int run, Stream stream) {
  const RunState& state = runs_[run];
  const int64_t row_elements = state.param->wire_row_elements;
  for (int64_t row = 0; row < state.run->rows; row += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, state.run->rows - row);
    kernels.row_sums(
        {gradient + row * row_elements, rows, row_elements, row_sums_.data()},
        stream);
    for (int64_t r = 0; r < rows; ++r) {
      if (std::isfinite(row_sums_[r])) {
        norm_.Add(row_sums_[r]);
      } else {
        finite_[run] = 0;
      }
    }
  }
}

void BucketShard::SumSpan(const KernelTable& kernels, const float* gradient,
                          int run, const SpanState& state, Stream stream) {
  const BlockSpan& span = state.span;
  const int64_t row_elements = runs_[run].param->wire_row_elements;
  const int64_t rows_total = span.blocks * span.rows_per_block;
  double* sums = block_sums() + state.sums_offset;
  BlockSummer block(span.rows_per_block);
  for (int64_t row = 0; row < rows_total; row += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, rows_total - row);
    kernels.row_sums(
        {gradient + row * row_elements, rows, row_elements, row_sums_.data()},
        stream);
    for (int64_t r = 0; r < rows; ++r) {
      const double sum = row_sums_[r];
      if (std::isfinite(sum)) {
        norm_.Add(sum);
      } else {
        finite_[run] = 0;
      }
      if (state.split >= 0) {
        AddToPartial(state.split, sum);
        continue;
      }
      if (span.rows_per_block == 1) {
        sums[row + r] = sum;
        continue;
      }
      block.Add(sum);
      const int64_t done = row + r + 1;
      if (done % span.rows_per_block != 0) continue;
      sums[done / span.rows_per_block - 1] = block.Take();
    }
  }
}

int BucketShard::PartialOf(int split) const {
  const auto at = std::find(splits_.begin(), splits_.end(), split);
  return static_cast<int>(at - splits_.begin());
}

void BucketShard::AddToPartial(int split, double row_sum) {
  Partial& partial = partials_[PartialOf(split)];
  if (std::isfinite(row_sum)) {
    partial.finite.Add(row_sum);
  } else {
    partial.not_finite += row_sum;
  }
}

void BucketShard::TakeStatistics(const KernelTable& kernels,
                                 const float* gradient, bool all,
                                 Stream stream) {
  row_sums_.resize(kRowsAtOnce);
  norm_ = ExactSum();
  for (Partial& partial : partials_) partial = Partial();
  std::fill(finite_.begin(), finite_.end(), char{1});
  for (size_t i = 0; i < runs_.size(); ++i) {
    const RunState& state = runs_[i];
    const float* wire = gradient + state.run->wire_offset;
    if (!state.param->element_state) {
      for (const SpanState& span : state.spans) {
        if (!all && span.split < 0) continue;
        const int64_t row = span.span.first_row - state.run->first_row;
        SumSpan(kernels, wire + row * state.param->wire_row_elements, int(i),
                span, stream);
      }
    } else if (!all) {
      continue;
    } else if (state.param->row_elements == 1) {
      SumElements(wire, int(i));
    } else {
      SumRows(kernels, wire, int(i), stream);
    }
  }
}

void BucketShard::SetSplitSum(int split, double sum) {
  for (const RunState& state : runs_) {
    for (const SpanState& span : state.spans) {
      if (span.split == split) block_sums()[span.sums_offset] = sum;
    }
  }
}

}  // namespace zeromini
