#include "runtime/bucket_shard.h"

#include <algorithm>
#include <cmath>

#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Rows summed at a time: their sums stay in the first-level cache.
constexpr int64_t kRowsAtOnce = 1024;

int FindSplit(const Plan& plan, int param, int64_t block) {
  for (size_t i = 0; i < plan.split_blocks.size(); ++i) {
    const SplitBlock& split = plan.split_blocks[i];
    if (split.param == param && split.block == block) return int(i);
  }
  return -1;
}

}  // namespace

absl::StatusOr<BucketShard> BucketShard::Create(const Plan& plan, int bucket,
                                                int rank, bool keeps_master,
                                                Device& device) {
  const BucketPlan& layout = plan.buckets[bucket];
  BucketShard shard;
  int64_t second_moments = 0;
  int64_t sums = 0;
  for (const Run& run : layout.runs[rank]) {
    RunState state;
    state.run = &run;
    state.param = &plan.params[run.param];
    state.second_moment_offset = second_moments;
    if (state.param->element_state) {
      second_moments += run.rows * state.param->state_row_elements;
    } else {
      for (const BlockSpan& span : SpansOf(*state.param, run)) {
        const int split =
            span.split ? FindSplit(plan, run.param, span.first_block) : -1;
        ZEROMINI_CHECK(span.split == (split >= 0));
        state.spans.push_back({span, second_moments, sums, split});
        if (split >= 0 && shard.PartialOf(split) == int(shard.splits_.size())) {
          shard.splits_.push_back(split);
        }
        second_moments += span.blocks;
        sums += span.blocks;
      }
    }
    shard.runs_.push_back(std::move(state));
  }
  shard.finite_.resize(shard.runs_.size(), 1);
  shard.partials_.resize(shard.splits_.size());
  ZEROMINI_ASSIGN_OR_RETURN(
      shard.momentum_, device.Allocate(layout.state_segment * sizeof(float),
                                       MemoryKind::kMomentum));
  ZEROMINI_ASSIGN_OR_RETURN(
      shard.second_moment_,
      device.Allocate(second_moments * int64_t{sizeof(float)},
                      MemoryKind::kSecondMoment));
  if (keeps_master) {
    ZEROMINI_ASSIGN_OR_RETURN(
        shard.master_, device.Allocate(layout.segment * int64_t{sizeof(float)},
                                       MemoryKind::kMaster));
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      shard.block_sums_,
      device.Allocate(sums * int64_t{sizeof(double)}, MemoryKind::kStatistics));
  return shard;
}

void BucketShard::TakeMaster(const KernelTable& kernels,
                             const ParamStore& store, Stream stream) {
  for (const RunState& state : runs_) {
    const Run& run = *state.run;
    PackRows(kernels, *state.param, {run.first_row, run.rows},
             store.weights(run.param), master() + run.offset, stream);
  }
}

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
  ExactSum block;
  for (int64_t row = 0; row < rows_total; row += kRowsAtOnce) {
    const int64_t rows = std::min(kRowsAtOnce, rows_total - row);
    kernels.row_sums(
        {gradient + row * row_elements, rows, row_elements, row_sums_.data()},
        stream);
    for (int64_t r = 0; r < rows; ++r) {
      const double sum = row_sums_[r];
      if (!std::isfinite(sum)) {
        finite_[run] = 0;
        continue;
      }
      norm_.Add(sum);
      if (state.split >= 0) {
        partials_[PartialOf(state.split)].Add(sum);
        continue;
      }
      if (span.rows_per_block == 1) {
        sums[row + r] = sum;
        continue;
      }
      block.Add(sum);
      const int64_t done = row + r + 1;
      if (done % span.rows_per_block != 0) continue;
      sums[done / span.rows_per_block - 1] =
          ExactSum::Round(block.limbs().data());
      block = ExactSum();
    }
  }
}

int BucketShard::PartialOf(int split) const {
  const auto at = std::find(splits_.begin(), splits_.end(), split);
  return static_cast<int>(at - splits_.begin());
}

void BucketShard::TakeStatistics(const KernelTable& kernels,
                                 const float* gradient, bool all,
                                 Stream stream) {
  row_sums_.resize(kRowsAtOnce);
  norm_ = ExactSum();
  for (ExactSum& partial : partials_) partial = ExactSum();
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
