// ParamSpec: everything the optimizer knows of one parameter tensor, and
// BlockRule: what form its second moments have, and what shares one.

#ifndef ZEROMINI_PARAM_SPEC_H_
#define ZEROMINI_PARAM_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "zeromini/types.h"

namespace zeromini {

// What a block is, for people: it changes no number.
enum class BlockKind { kHead, kRow, kWhole };

// How the second moments of a matrix [rows, columns] are stored and estimated.
enum class MomentForm {
  kBlocks,    // Adam-mini's: one scalar for rows that are alike.
  kFactored,  // r_i c_j / mean(c), of averages r over rows and c over columns.
  kColumns,   // c_j: one scalar for each column, such as an input neuron.
};

// A tensor is a stack of rows: dimension 0 of a matrix [out, in] (one row per
// output neuron or token), dimensions 0 and 1 of a stack of matrices
// (ParamSpec::slices). A 1-D tensor is one row.
struct BlockSegment {
  int64_t rows = 0;            // Consecutive rows of this segment.
  int64_t rows_per_block = 1;  // Divides `rows`; they share one scalar.
  // Not given: rows if rows_per_block is 1, else heads. A plan gives it.
  std::optional<BlockKind> kind = std::nullopt;
  // Not kBlocks: the segment is a matrix of its own each time it repeats, and
  // rows_per_block is 1.
  MomentForm form = MomentForm::kBlocks;
};

struct BlockRule {
  enum class Kind {
    kAuto,     // From the name tables; else a warning names what was chosen.
    kElement,  // No sharing: ordinary Adam, v per element (biases).
    kRows,     // One scalar per row (value, projections, MLP, embeddings).
    kHeads,    // One scalar per rows_per_head rows (query, key).
    kWhole,    // One scalar for the tensor, or for each slice (norms).
    kFused,    // `segments`, repeated until the rows of a slice are used up.
    // Of a matrix, or of each slice; see MomentForm. Sums over columns cross
    // ranks: Optimizer::Step() says what they cost.
    kFactored,  // rows + columns scalars. Either way round the same.
    kColumns,   // One scalar per column, [out, in] taken as the matrix.
  };
  Kind kind = Kind::kAuto;
  int64_t rows_per_head = 0;           // kHeads, no other: the head dimension.
  std::vector<BlockSegment> segments;  // kFused, no other.

  static BlockRule Element() { return {Kind::kElement, 0, {}}; }
  static BlockRule Rows() { return {Kind::kRows, 0, {}}; }
  static BlockRule Whole() { return {Kind::kWhole, 0, {}}; }
  static BlockRule Heads(int64_t rows_per_head) {
    return {Kind::kHeads, rows_per_head, {}};
  }
  static BlockRule Fused(std::vector<BlockSegment> segments) {
    return {Kind::kFused, 0, std::move(segments)};
  }
  static BlockRule Factored() { return {Kind::kFactored, 0, {}}; }
  static BlockRule Columns() { return {Kind::kColumns, 0, {}}; }
};

// Of ParamSpec::layer_set: the set of the parameter's layer, or kNoLayerSet if
// it has none. No set of a plan: Optimizer::Gather() refuses it.
inline constexpr int kLayerSetOfLayer = -1;
// The set of what belongs to no layer, in a ParamSpec, a plan and Gather()
// alike.
inline constexpr int kNoLayerSet = -2;

struct ParamSpec {
  std::string name;            // Unique, not empty.
  std::vector<int64_t> shape;  // Row-major, positive. [slices, out, in] if
                               // slices > 1. Must be given: {1} for a scalar.

  // Leading dimension that only stacks tensors of one kind: llm.c's [L, ...]
  // layers, the experts of [E, out, in]. 1 if the tensor is not a stack.
  // Checked against shape[0]. The name tables set it for 3-D experts; any other
  // tensor of three or more dimensions needs it or a rule.
  int64_t slices = 1;

  // True for [in, out] storage (HF Conv1D, the [E, in, out] experts of gpt-oss
  // and Llama 4, column-major weights), where an output neuron is a column.
  // Needs a matrix or a stack of matrices. Where ModelShape::hidden shows that
  // a named matrix is stored the other way, the plan is refused; a square shows
  // nothing, and there is a warning if the matrices beside it differ.
  bool output_is_last = false;

  // Trailing rows that only pad the vocabulary. They get no gradient and stay
  // out of block means.
  int64_t padding_rows = 0;

  // Of weights and gradients: kFloat32, kBFloat16 or kFloat16.
  DType dtype = DType::kFloat32;
  BlockRule rule;
  int layer = -1;  // Transformer layer; -1: from the name, if it has one.
  // ZeRO-3: gathered together; a number of at least 0, or one of the two above.
  // What is tied is gathered with what it is tied to, and what is frozen is
  // whole.
  int layer_set = kLayerSetOfLayer;
  // Index into OptimizerOptions::hyper_groups; -1: the first group that has a
  // pattern or a predicate that matches, else group 0.
  int hyper_group = -1;
  bool frozen = false;  // Never updated; takes no state and no bandwidth.
  // This rank's own experts, which only ranks of the same slice hold as well:
  // see OptimizerOptions::expert_slices.
  bool expert = false;

  // Name of an earlier parameter whose storage this one shares (tied embedding
  // and head). It must have that one's shape and dtype, and be frozen or an
  // expert's if that one is. Each of the two gives its own gradient, and they
  // are added up; it has no state and no weight decay of its own.
  std::string tied_to;

  // The full tensor of `dtype`, on every rank. Not owned. Two that overlap must
  // be tied. Its values must be equal on all ranks that hold the tensor, or
  // BroadcastParams() (in stages 1 and 2) or SetParam() must follow.
  // External memory: what is trained. Flat memory: what Optimizer::Create()
  // copies the initial weights from (at stage 3 this rank's rows), whether
  // frozen or not, and does not need afterwards. Of tied parameters the owner's
  // counts if it is given. Null: the weights are zeros until they are set.
  void* data = nullptr;
};

}  // namespace zeromini

#endif  // ZEROMINI_PARAM_SPEC_H_
