// Kernels: the update rules as plain functions over one shard's memory, one
// table per device. The runtime calls them; a trainer with a pipeline of its
// own may too. All arrays are contiguous, fp32 unless said, and owned by the
// caller. On the host a call is done when it returns; on a GPU it is enqueued
// on `stream`.
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
#include "zeromini/types.h"

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

// SGD with momentum as in torch.optim.SGD (dampening 0, no Nesterov), but with
// decoupled decay: p = p (1 - lr wd);  m = b1 m + g;  p = p - lr m.
struct SgdArgs {
  float* parameter;       // [elements]
  const float* gradient;  // [elements]
  float* momentum;        // [elements]
  int64_t elements;
  StepScalars scalars;  // beta2, epsilon and step are not used.
};

// rows x columns, from one row stride to another (in elements), optionally
// transposed: out[c*out_stride + r] = in[r*in_stride + c]. Bits are kept if the
// dtypes are equal; otherwise bf16 or fp16 is widened to fp32.
struct CopyArgs {
  const void* in;
  void* out;
  int64_t rows;
  int64_t columns;
  int64_t in_stride;
  int64_t out_stride;
  bool transpose;
  DType in_dtype = DType::kFloat32;   // kFloat32, kBFloat16 or kFloat16.
  DType out_dtype = DType::kFloat32;  // in_dtype, or kFloat32.
};

// Weights at rest, and what restores their fp32 master. With dtype kFloat32
// the format must be kNone and the codec is a copy.
struct WeightCodecArgs {
  void* weights;    // [elements] of `dtype`.
  void* master;     // [elements] of float, int16_t or int8_t; null for kNone.
  float* unpacked;  // [elements]
  int64_t elements;
  DType dtype;
  MasterFormat format;  // Remainders need kBFloat16.
  // Of stochastic rounding (bf16, kNone): element i of `weights` uses random
  // number first_element + i of the sequence `seed`.
  uint64_t seed;
  int64_t first_element;
};

// Momentum or second moments at rest.
struct StateCodecArgs {
  void* packed;      // [rows, row_elements] of float, bf16, int8_t or, for
                     // squares, uint8_t.
  uint16_t* scales;  // kInt8: [rows, ceil(row_elements / kStateGroup)] of bf16.
  float* unpacked;   // [rows, row_elements]
  int64_t rows;
  int64_t row_elements;
  StateFormat format;
  bool squares;   // Second moments: never negative.
  uint64_t seed;  // As for weights, over the elements of all rows.
  int64_t first_element;
};

// Finite values beyond +-limit become +-limit; what is not finite stays.
struct ClampArgs {
  float* values;  // [elements]
  int64_t elements;
  float limit;  // Positive.
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
  void (*sgd)(const SgdArgs&, Stream);
  void (*clamp)(const ClampArgs&, Stream);
  // unpack: fills `unpacked`. pack: stores it, `unpacked` unchanged.
  void (*unpack_weights)(const WeightCodecArgs&, Stream);
  void (*pack_weights)(const WeightCodecArgs&, Stream);
  void (*unpack_state)(const StateCodecArgs&, Stream);
  void (*pack_state)(const StateCodecArgs&, Stream);
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
