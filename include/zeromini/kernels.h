// Kernels: the update rules as plain functions over one shard's memory, one
// table per device. The runtime calls them; a trainer with a pipeline of its
// own may too. All arrays are contiguous fp32 and owned by the caller. On the
// host a call is done when it returns; on a GPU it is enqueued on `stream`.
//
// Adam-mini: arXiv 2406.16793, Algorithm 1 and 2, in the order of operations of
// the official code, zyushun/Adam-mini adam_mini.py:259-313 (1.1.1):
//   v = b2 v + (1-b2) mean(g^2)    over the block
//   p = p (1 - lr wd);  m = m + (1-b1)(g - m)
//   p = p - lr/(1-b1^t) / (sqrt(v)/sqrt(1-b2^t) + eps) m
// AdamW: torch.optim.AdamW with amsgrad=False, the same with v per element.
//
// The same inputs give the same bits on every x86-64 level and compiler: sums
// run in a fixed order in double, and nothing is contracted to an FMA.

#ifndef ZEROMINI_KERNELS_H_
#define ZEROMINI_KERNELS_H_

#include <cstdint>

#include "zeromini/stream.h"

namespace zeromini {

// What a step's update needs besides the arrays. The gradient used is
// gradient_scale * gradient: the mean over ranks, micro-steps and the clipping
// coefficient, in one factor.
struct StepScalars {
  double learning_rate = 0;
  double weight_decay = 0;  // Decoupled: p *= 1 - learning_rate*weight_decay.
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  int64_t step = 1;  // t, from 1: this parameter's own count of updates.
  double gradient_scale = 1;
};

// row_sums[r] = sum of gradient[r*row_elements + i]^2, each row summed on its
// own in a fixed order in double. Squares of finite floats cannot overflow a
// double, so a row sum is finite exactly when its gradients are.
struct RowSumsArgs {
  const float* gradient;  // [rows, row_elements]
  int64_t rows;
  int64_t row_elements;
  double* row_sums;  // [rows]
};

// `blocks` blocks of block_rows rows, one after another.
struct AdamMiniArgs {
  float* parameter;       // [blocks*block_rows, row_elements]
  const float* gradient;  // Same shape.
  float* momentum;        // Same shape.
  float* second_moment;   // [blocks]
  // [blocks]: sum of squares of the unscaled gradient over each *whole* block
  // (which may extend beyond this shard). Unused by the fused kernel.
  const double* block_sums;
  int64_t blocks;
  int64_t block_rows;
  int64_t row_elements;
  // Elements in a whole block: the mean's denominator. Differs from
  // block_rows*row_elements for a split block and for padding rows.
  int64_t block_elements;
  StepScalars scalars;
};

// v per element.
struct AdamWArgs {
  float* parameter;       // [elements]
  const float* gradient;  // [elements]
  float* momentum;        // [elements]
  float* second_moment;   // [elements]
  int64_t elements;
  StepScalars scalars;
};

// rows x columns, from one row stride to another (in elements), optionally
// transposed: out[c*out_stride + r] = in[r*in_stride + c].
struct CopyArgs {
  const float* in;
  float* out;
  int64_t rows;
  int64_t columns;
  int64_t in_stride;
  int64_t out_stride;
  bool transpose;
};

struct AccumulateArgs {  // sum[i] += addend[i]
  float* sum;
  const float* addend;
  int64_t elements;
};

struct KernelTable {
  const char* name;  // "reference", "cpu", "cuda".
  void (*row_sums)(const RowSumsArgs&, Stream);
  void (*adam_mini_step)(const AdamMiniArgs&, Stream);   // From block_sums.
  void (*adam_mini_fused)(const AdamMiniArgs&, Stream);  // Sums on the way.
  void (*adamw)(const AdamWArgs&, Stream);
  void (*copy)(const CopyArgs&, Stream);
  void (*accumulate)(const AccumulateArgs&, Stream);
};

// double arithmetic, one plain loop each: what the formulas mean.
const KernelTable& ReferenceKernels();

// SIMD, chosen at run time for this processor.
const KernelTable& CpuKernels();

// "x86-64-v4 (AVX-512)" and the like: what CpuKernels() uses here.
const char* CpuLevel();

// Forces a lower level ("x86-64", "x86-64-v3", "x86-64-v4"); for tests and
// benchmarks. Null if the processor lacks it or the name is unknown.
const KernelTable* CpuKernelsAt(const char* level);

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_H_
