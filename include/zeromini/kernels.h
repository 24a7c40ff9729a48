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
// Factored: the same with v_ij = r_i c_j / mean(c) and, for r and c, averages
// of the means of g^2 over rows and columns (Adafactor's estimate, arXiv
// 1804.04235, Algorithm 1, where mean(r), which is mean(c), divides).
//
// The same inputs give the same bits on every x86-64 level and compiler: sums
// run in a fixed order in double, and nothing is contracted to an FMA. Only
// what is NaN may be another NaN.

#ifndef ZEROMINI_KERNELS_H_
#define ZEROMINI_KERNELS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "zeromini/stream.h"
#include "zeromini/types.h"

namespace zeromini {

// What a step's update needs besides the arrays. Kernels take it by pointer, in
// the memory of their device, and read it when they run: what a step decides
// there (scale, skip, this parameter's count) reaches them without the host.
// The gradient used is gradient_scale * gradient: the mean over ranks,
// micro-steps and the clipping coefficient, in one factor.
struct StepScalars {
  double learning_rate = 0;
  double weight_decay = 0;  // Decoupled: p *= 1 - learning_rate*weight_decay.
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  int64_t step = 1;  // t, from 1: this parameter's own count of updates.
  double gradient_scale = 1;
  int64_t update = 1;  // 0: a kernel that is given this does nothing.
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
  const StepScalars* scalars;
};

// Rows of one matrix whose second moments are factored, or shared by columns:
//   r_i = b2 r_i + (1-b2) mean(g_i^2) over the row
//   p = p (1 - lr wd);  m = m + (1-b1)(g - m)
//   p = p - lr/(1-b1^t) / (sqrt(r_i) f_j + eps) m
// where f_j is of ColumnArgs. Shared by columns: 1 instead of sqrt(r_i). Where
// r_i or f_j is 0, eps alone divides; with an eps of 0, too, 0/0 is NaN there,
// as it is with v per element.
struct FactoredArgs {
  float* parameter;       // [rows, row_elements]
  const float* gradient;  // Same shape.
  float* momentum;        // Same shape.
  float* row_moments;     // [rows]: r. Null: shared by columns.
  // [rows]: as AdamMiniArgs::block_sums; null if row_moments is.
  const double* row_sums;
  const float* column_factors;  // [row_elements]
  int64_t rows;
  int64_t row_elements;
  const StepScalars* scalars;
};

// v per element.
struct AdamWArgs {
  float* parameter;       // [elements]
  const float* gradient;  // [elements]
  float* momentum;        // [elements]
  float* second_moment;   // [elements]
  int64_t elements;
  const StepScalars* scalars;
};

// SGD with momentum as in torch.optim.SGD (dampening 0, no Nesterov), but with
// decoupled decay: p = p (1 - lr wd);  m = b1 m + g;  p = p - lr m.
struct SgdArgs {
  float* parameter;       // [elements]
  const float* gradient;  // [elements]
  float* momentum;        // [elements]
  int64_t elements;
  const StepScalars* scalars;  // beta2, epsilon and step are not used.
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
  // Null, or: nothing is done where its `update` is 0.
  const StepScalars* only_if = nullptr;
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
  // number first_element + i of the sequence that `seed` and the step give.
  uint64_t seed;
  int64_t first_element;
  // Null: step 0, and always. Otherwise nothing is done where its `update` is
  // 0.
  const StepScalars* scalars = nullptr;
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
  const StepScalars* scalars = nullptr;  // As for weights.
};

enum class UpdateRule { kAdamMini, kAdamW, kSgd, kFactored };

// An update of an array whose weights or state rest in fewer bits, in one pass
// over what is stored: 20 bytes per parameter with statistics where weights are
// bf16 beside 16-bit remainders and momentum is bf16, 16 with 8-bit remainders
// and int8, 24 if all were fp32. The bits are those of unpack_weights and
// unpack_state, then adam_mini_step, adamw, sgd or factored_step, then
// pack_weights and pack_state, of the same table.
struct CodedUpdateArgs {
  UpdateRule rule;
  // Of the codecs `unpacked` and `scalars` are not used. `momentum` says how
  // many rows of how many elements there are.
  WeightCodecArgs weights;
  StateCodecArgs momentum;
  StateCodecArgs second_moment;  // kAdamW: as many rows, the same format.
  const float* gradient;         // [rows, row_elements]
  // kAdamMini: as in AdamMiniArgs, blocks of equally many rows.
  float* block_moments;      // [blocks]
  const double* block_sums;  // [blocks]
  int64_t blocks;
  int64_t block_elements;
  // kFactored: as in FactoredArgs.
  float* row_moments;           // [rows], or null.
  const double* row_sums;       // [rows]
  const float* column_factors;  // [row_elements]
  const StepScalars* scalars;   // Never null.
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

// Consecutive rows of one parameter in a segment of the gradient, whose sums of
// squares are taken alike.
struct SumSpan {
  int64_t first_element = 0;  // Of the segment.
  int64_t rows = 0;
  int64_t row_elements = 0;
  // Rows of each whole block; their sums go to block_sums[sums_at] and on. 0:
  // no block is whole here.
  int64_t rows_per_block = 0;
  int64_t sums_at = 0;
  // Where in the words this parameter's is, and the words of the split block
  // that all of these rows are of, or -1: see zeromini/internal/scalar_words.h.
  int64_t param_word = 0;
  int64_t split_words = -1;
  // Where the sums of the matrix's columns are in StatisticsArgs::columns, or
  // -1: none are taken. The rows are then whole groups of group_rows, which
  // add up to one addend of each column.
  int64_t columns_at = -1;
  int64_t group_rows = 1;
};

// Of one column, at most: their sum must fit an int64_t.
inline constexpr int64_t kMaxColumnAddends = int64_t{1} << 18;
inline constexpr int kColumnDigits = 3;

// Sums of squares over the rows of a matrix, column by column, which ranks that
// have some of the rows take each on its own and then add up to the same bits
// as one rank with all of them: of integers, in units that depend on the
// largest addend alone. An addend is the sum of squares of a column over one
// group of rows, added row by row in double; no group is cut between ranks.
// kernels/column_sum.h has the arithmetic.
//   top     of a column: where its largest addend is among digits of 15 bits;
//           0: all are 0; kColumnNotFinite: one is not finite.
//   digits  sum of floor(addend / (u 2^(15 k))) for k of 0, 1, 2, where u is
//           the unit of the column's top: what is left if the top of another
//           rank is k digits higher.
struct ColumnSums {
  int64_t* digits = nullptr;  // [kColumnDigits, columns]
  uint8_t* tops = nullptr;    // [columns]
  int64_t columns = 0;        // Of all matrices that this rank has rows of.
  // Addends are taken as divided by 2^exponent, alike on all ranks: about what
  // their sums over ranks and micro-steps are divided by in the mean, squared.
  // Then the same mean over twice as many ranks has the same digits.
  int exponent = 0;
};

// One kernel for a bucket: its gradient is read once. Adds to `words`: the norm
// limbs, 2^32 to the word of a parameter that has a row that is not finite,
// limbs and the word of what is not finite of split blocks.
struct StatisticsArgs {
  const float* gradient;
  const SumSpan* spans;  // [count], like all below in the device's memory.
  int64_t count;
  double* block_sums;
  int64_t* words;
  bool norm;  // False: adds nothing to the limbs of the norm.
  // False: of another copy of the same shard, whose sums one rank adds: no norm
  // and no split or column sums, only what is not finite.
  bool counts;
  ColumnSums columns = {};
};

// The columns of one matrix: those of this rank and, equal on all ranks, those
// that ranks agree on.
struct ColumnMatrix {
  int64_t columns = 0;
  int64_t rows = 0;       // Of all ranks, padding rows left out.
  int64_t local_at = 0;   // In `sums`, `moments` and `factors`.
  int64_t shared_at = 0;  // In `agreed` and `words`.
  int64_t param = 0;      // Index into `scalars`.
  int64_t factored = 1;   // 0: second moments are shared by columns.
};

// Three kernels, with exchanges between them:
//   column_tops     agreed = this rank's tops; then a maximum over ranks.
//   column_words    words = this rank's sums in units of the agreed tops, and
//                   clears this rank's tops and digits; then a sum over ranks.
//   column_moments  c = b2 c + (1-b2) scale^2 sum / rows, and what the update
//                   multiplies with, f_j = sqrt(c_j / mean(c)) / sqrt(1-b2^t),
//                   or sqrt(c_j) / sqrt(1-b2^t) if not factored; 0 where c_j
//                   is. Not for a parameter whose `update` is 0.
// `agreed` and `words` of matrices that this rank has no rows of are 0 before.
struct ColumnArgs {
  const ColumnMatrix* matrices;  // [count], in the device's memory.
  int64_t count;
  ColumnSums sums;
  uint8_t* agreed;
  int64_t* words;
  float* moments;              // [sums.columns]: c.
  float* factors;              // [sums.columns]: f.
  const StepScalars* scalars;  // By parameter.
};

// What the host knows of a step's words, added to what kernels have counted:
// sum[i] += addend[i].
struct AddWordsArgs {
  int64_t* sum;
  const int64_t* addend;
  int64_t count;
};

enum class Verdict : int64_t {
  kUpdate,
  kDisagreement,  // Ranks set different agreement words.
  kRefused,       // DecisionInput::refused.
  kAbsent,        // A gradient that is required did not come.
  kNotFinite,
  kNormTooLarge,  // Above skip_above.
};

// What the host knows before a step, in device memory.
struct DecisionInput {
  int64_t ranks = 1;
  uint64_t agreement = 0;      // This rank's word.
  int64_t refused = 0;         // Not 0: the numbers cannot be used.
  int64_t require_all = 0;     // Not 0: every rank gives every gradient.
  int64_t has_statistics = 0;  // 0: nothing asks for norm and finite flags.
  double mean_scale = 1;       // Of gradients, clipping left out.
  double max_grad_norm = 0;    // 0: off, alike the next.
  double skip_above = 0;
};

struct DecisionParam {
  int64_t word = -1;   // Of its words; -1: it has none, and never an update.
  int64_t group = 0;   // Index into DecideArgs::hyper.
  int64_t decays = 0;  // 0: its weight decay is 0.
};

struct SplitTarget {
  int64_t words_at = 0;         // Of its limbs.
  double* block_sum = nullptr;  // Where the update reads the whole sum.
};

// What was decided. Only kUpdate moves anything.
struct StepDecision {
  Verdict verdict = Verdict::kUpdate;
  int64_t updates = 0;    // Steps with kUpdate so far, this one in.
  int64_t absent = 0;     // Parameters without a gradient on any rank.
  double grad_norm = 0;   // Before clipping; NaN without statistics.
  double clip_scale = 1;  // As torch.nn.utils.clip_grad_norm_.
};

// From the words of all ranks, the same on each. Of two reasons against an
// update the first in Verdict's order counts. `scalars` of a parameter: those
// of its group, with its count and scale, and `update` 0 if the verdict is not
// kUpdate or its gradient is absent. Moves `steps` of what is updated.
struct DecideArgs {
  const int64_t* words;  // After the all-reduce.
  const DecisionInput* input;
  const StepScalars* hyper;     // By hyper-parameter group.
  const DecisionParam* params;  // [params]
  int64_t num_params;
  const SplitTarget* splits;  // [num_splits], those that this rank has.
  int64_t num_splits;
  int64_t* steps;          // [params], updates so far.
  StepScalars* scalars;    // [params], out.
  StepDecision* decision;  // In (updates) and out.
};

// All return the error of the call itself, such as a launch that fails.
struct KernelTable {
  const char* name;  // "reference", "cpu", "cuda".
  absl::Status (*row_sums)(const RowSumsArgs&, Stream);
  absl::Status (*adam_mini_step)(const AdamMiniArgs&, Stream);   // block_sums.
  absl::Status (*adam_mini_fused)(const AdamMiniArgs&, Stream);  // Sums, too.
  absl::Status (*adamw)(const AdamWArgs&, Stream);
  absl::Status (*copy)(const CopyArgs&, Stream);
  absl::Status (*accumulate)(const AccumulateArgs&, Stream);
  absl::Status (*sgd)(const SgdArgs&, Stream);
  absl::Status (*clamp)(const ClampArgs&, Stream);
  // unpack: fills `unpacked`. pack: stores it, `unpacked` unchanged.
  absl::Status (*unpack_weights)(const WeightCodecArgs&, Stream);
  absl::Status (*pack_weights)(const WeightCodecArgs&, Stream);
  absl::Status (*unpack_state)(const StateCodecArgs&, Stream);
  absl::Status (*pack_state)(const StateCodecArgs&, Stream);
  absl::Status (*statistics)(const StatisticsArgs&, Stream);
  absl::Status (*add_words)(const AddWordsArgs&, Stream);
  absl::Status (*decide)(const DecideArgs&, Stream);
  absl::Status (*column_tops)(const ColumnArgs&, Stream);
  absl::Status (*column_words)(const ColumnArgs&, Stream);
  absl::Status (*column_moments)(const ColumnArgs&, Stream);
  absl::Status (*factored_step)(const FactoredArgs&, Stream);
  // Null: this device has none, and the runtime unpacks, updates and packs.
  absl::Status (*coded_update)(const CodedUpdateArgs&, Stream);
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
