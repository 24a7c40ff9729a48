// Plan: which rank owns which rows, as data. Pure arithmetic: needs no group
// and no device, depends on global shapes only, equal on every rank.

#ifndef ZEROMINI_PLAN_H_
#define ZEROMINI_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "zeromini/param_spec.h"
#include "zeromini/types.h"

namespace zeromini {

// kSgd: with momentum, as kernels.h says; no second moments.
enum class Algorithm { kAdamW, kAdamMini, kSgd };
const char* AlgorithmName(Algorithm algorithm);  // "adamw", "adam-mini", "sgd".
absl::StatusOr<Algorithm> ParseAlgorithm(absl::string_view name);

// Facts of the model that names alone cannot tell, as its config.json has
// them. 0: unknown; nothing above 2^31 - 1. Rows of query, key and fused
// tensors must be those of these heads; parameters of another tower need a
// ParamSpec::rule. `hidden` also tells which way a matrix is stored.
struct ModelShape {
  int64_t hidden = 0;
  int64_t heads = 0;
  // Divides heads. 0: as heads, or with a head_dim as a key's rows say.
  int64_t kv_heads = 0;
  int64_t head_dim = 0;  // 0: hidden / heads, which not every model has.
};

// How a parameter of BlockRule::kAuto finds its class.
enum class Naming {
  kZeromini,  // Our tables, by model family, from explicit head dimensions.
  kOfficial,  // Substrings and dim*dim/n_heads, as Adam-mini 1.1.1 does.
};

enum class ValueBlocks { kRows, kWhole };  // The value projection's blocks.

// What Adam-mini's parameters of BlockRule::kAuto get.
enum class SecondMoment {
  // The paper's partition: heads, rows, whole tensors.
  kOfficial,
  // Not Adam-mini's, at about its bytes: matrices are factored (each of Q, K
  // and V that are fused, each slice of a stack, a convolution as its filters),
  // norms, biases and other vectors have v per element. The estimate is
  // Adafactor's (arXiv 1804.04235). ValueBlocks have no say. Refused where no
  // hyper-parameter group is Adam-mini's.
  kFactored,
};
const char* SecondMomentName(SecondMoment form);  // "official", "factored".

// Where a block may be cut. With kSplitAtCuts at any row, but in fused tensors
// that have sums over columns beside blocks: every other tensor is laid out as
// AdamW's are, and the partial sums of what is cut ride in the step's scalar
// exchange; sums over columns take each row by itself, which is slower
// (see kColumnGroupRows). With kWhole a block is on one rank, unless it is
// larger than its bucket's shard can be; Plan::split_blocks lists those.
enum class BlockCuts { kWhole, kSplitAtCuts };

// Of ranks times replicas.
inline constexpr int kMaxPlanRanks = 65'536;

// Which layouts are weighed against each other.
enum class Bucketing {
  kCheapest,  // All that keep to buffer_budget_bytes.
  // One: a bucket is a layer, or tensors of it up to bucket_bytes, or two
  // layers where one would split blocks; in place or packed, whichever costs
  // less. Buffers are as large as that makes them.
  kByLayer,
};

inline constexpr int64_t kDefaultBufferBudget = int64_t{256} << 20;
inline constexpr int64_t kNoBufferBudget = int64_t{1} << 50;

struct PlanOptions {
  Algorithm algorithm = Algorithm::kAdamMini;
  // By ParamSpec::hyper_group, where a group has one of its own; may be
  // shorter.
  std::vector<std::optional<Algorithm>> group_algorithms;
  int ranks = 1;  // That share one copy of the state.
  // Copies of it: rank r of replicas * ranks owns what this plan says of rank
  // r % ranks.
  int replicas = 1;
  int stage = 1;  // 1, 2 or 3; at 3 a bucket never crosses a layer set.
  ModelShape model;
  Naming naming = Naming::kZeromini;
  ValueBlocks value_blocks = ValueBlocks::kRows;
  SecondMoment second_moment = SecondMoment::kOfficial;

  BlockCuts blocks = BlockCuts::kWhole;
  // External memory and stages 2 and 3 send gradients through buffers.
  MemoryForm memory = MemoryForm::kExternal;

  Bucketing bucketing = Bucketing::kCheapest;

  // The layout is the one that costs least in a step, in bytes on the wire:
  // those themselves, padding in, plus `copy_cost` for each byte that is packed
  // or unpacked, plus `collective_cost_bytes` for each collective, plus once
  // more the gradients that would travel after backward has ended, were it as
  // long as the exchange of all. `zeromini bench comm` measures the first two
  // on a machine.
  double copy_cost = 0.125;
  int64_t collective_cost_bytes = int64_t{128} << 10;

  // About how large buckets are, in bytes on the wire (fp32). 0: a 32nd of all,
  // so that what can only leave when backward has ended is about that share.
  // Given or not, where gradients go through buffers no more than an eighth of
  // the budget, so that several buckets can fill while another travels; packed
  // ones, if not given, up to half of it where that costs less. A bucket is
  // larger where one unit on each rank is more.
  int64_t bucket_bytes = 0;

  // What exchange buffers may take. A block that is not whole in half of it is
  // split, where its gradients go through buffers. More is taken where it must
  // be: for a row on each rank, and for all of a tied tensor, whose first
  // gradient waits for its last; MemoryOf() says how much. 0:
  // kDefaultBufferBudget; kNoBufferBudget: no bound.
  int64_t buffer_budget_bytes = 0;
};

// A class a parameter was given. Roles decide blocks and weight decay.
enum class Role {
  kEmbedding,
  kOutput,
  kQuery,
  kKey,
  kValue,
  kFusedQkv,
  kAttentionOutput,
  kMlp,
  kNorm,
  kBias,
  kOther,
};
const char* RoleName(Role role);
const char* BlockKindName(BlockKind kind);  // "head", "row", "whole".
const char* MomentFormName(
    MomentForm form);  // "blocks", "factored", "columns".

// Consecutive units, equal in rows and in counts. At rest, as weights, a unit
// has rows_per_unit * row_elements elements.
struct UnitSegment {
  int64_t rows = 0;           // Consecutive rows of this segment.
  int64_t rows_per_unit = 1;  // Divides `rows`.
  // Of one unit: its gradient on the wire, and its momentum. As at rest, unless
  // the method sends or keeps a projection.
  int64_t wire_elements = 0;
  int64_t state_elements = 0;
};

// A resolved parameter: `rows` rows of `row_elements`, contiguous once
// transposed tensors are packed row by row.
struct PlannedParam {
  std::string name;
  std::vector<int64_t> shape;
  int64_t rows = 0;
  int64_t row_elements = 0;
  DType dtype = DType::kFloat32;
  Algorithm algorithm = Algorithm::kAdamMini;
  bool transposed = false;     // ParamSpec::output_is_last.
  bool element_state = false;  // v per element; no blocks.
  // Blocks, each with its kind, repeated to cover `rows`; empty if
  // element_state or SGD's.
  std::vector<BlockSegment> blocks;
  // What one rank must own whole, repeated likewise: a row or an element for
  // AdamW, a block for Adam-mini, a group of rows of a matrix with column
  // averages, the tensor for a matrix method.
  std::vector<UnitSegment> units;
  int64_t padding_rows = 0;
  Role role = Role::kOther;
  std::string chosen_by;  // "rule", a table's name, "official", "default".
  bool decays = true;     // Weight decay applies unless the group says else.
  bool frozen = false;
  bool expert = false;
  int tied_to = -1;  // Index of the parameter that owns the storage, if tied.
  // Index of the parameter that owns the storage: this one's own, or that of
  // what it is tied to.
  int owner = -1;
  // Itself and those tied to it, in order; empty if it is tied itself.
  std::vector<int> sharers;
  int hyper_group = 0;
  int layer = -1;
  int layer_set = kNoLayerSet;  // At least 0, or that.
  // Those that have rows of it, by row; none if frozen or tied.
  std::vector<int> buckets;
  // Where the tensor lies in flat or gathered memory; -1 if in no bucket.
  int region = -1;
  int64_t region_offset = 0;
  // Second moments: scalars of blocks and of columns; elements if
  // element_state.
  int64_t blocks_total = 0;

  // Neither frozen nor tied: it is updated, and has state of its own.
  bool has_state() const { return !buckets.empty(); }

  // False for SGD: v is kept neither per element nor per block.
  bool keeps_second_moment() const { return algorithm != Algorithm::kSgd; }
};

// Consecutive rows of one parameter inside one rank's segment of a bucket.
struct Run {
  int param = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  // Offsets into the rank's segment, in elements: weights, gradient on the
  // wire. Equal unless the method projects.
  int64_t offset = 0;
  int64_t wire_offset = 0;
  // Of these rows: gradient on the wire, momentum.
  int64_t wire_elements = 0;
  int64_t state_elements = 0;
};

// Where a bucket's gradient lies on the wire in one step: usually as the method
// sends it; `full`, in a step that needs the gradient itself to renew the
// projections, as the weights lie. One and the same unless the method projects.
struct WireLayout {
  int64_t elements = 0;  // Payload, without padding.
  int64_t segment = 0;   // One rank's, padding included, equal on all ranks.
  bool full = false;

  int64_t OffsetOf(const Run& run) const {
    return full ? run.offset : run.wire_offset;
  }
  int64_t ElementsOf(const PlannedParam& param, const Run& run) const {
    return full ? run.rows * param.row_elements : run.wire_elements;
  }
};

// Rows of one parameter that are in a bucket.
struct Part {
  int param = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
};

// Why a bucket is as it is.
enum class BucketReason {
  kUnits,       // In place: units of one size, of however many layers.
  kJunction,    // In place: the last of one size, and smaller ones that fill.
  kRemainder,   // In place: what whole buckets left over.
  kLayer,       // In place: a layer or tensors of it, or two, as they come.
  kPacked,      // Packed, since that costs less than padding.
  kTransposed,  // Packed: rows that are columns at rest.
  kProjected,   // Packed: a method sends or keeps something else.
};
const char* BucketReasonName(BucketReason reason);

struct BucketPlan {
  BucketReason reason = BucketReason::kUnits;
  std::vector<Part> parts;  // In forward order, one of a parameter.
  DType dtype = DType::kFloat32;
  bool expert = false;
  int layer_set = kNoLayerSet;  // At stage 3, of all its parameters.
  // In place: the bucket is the elements of this region from `region_offset`
  // on, segment by segment. -1: it is packed.
  int region = -1;
  int64_t region_offset = 0;
  int64_t elements = 0;  // Payload, without padding.
  int64_t wire_elements = 0;
  // One rank's segment, padding included, equal on all ranks.
  int64_t segment = 0;
  int64_t wire_segment = 0;
  std::vector<std::vector<Run>> runs;  // Per rank, by offset.

  bool in_place() const { return region >= 0; }
  WireLayout wire() const { return {wire_elements, wire_segment, false}; }
  WireLayout full_wire() const { return {elements, segment, true}; }
};

// Memory in which whole tensors lie one after another, each at its
// PlannedParam::region_offset, so that buckets in place need no copy: flat
// weights, and at stage 1 flat gradients; at stage 3 what a layer set is
// gathered into.
struct RegionPlan {
  DType dtype = DType::kFloat32;
  bool expert = false;
  int layer_set = kNoLayerSet;  // At stage 3, of all its parameters.
  int64_t elements = 0;         // Padding included.
};

// A block that no rank owns whole; its partial sums ride in the step's scalar
// exchange.
struct SplitBlock {
  int param = 0;
  int64_t block = 0;  // Index within the parameter.
};

struct Plan {
  PlanOptions options;
  std::vector<PlannedParam> params;  // One per ParamSpec, in its order.
  // By their first parameter; gradients leave in reverse.
  std::vector<BucketPlan> buckets;
  std::vector<RegionPlan> regions;
  std::vector<SplitBlock> split_blocks;
  // One per parameter that matched nothing or may have been misread.
  std::vector<std::string> warnings;
  uint64_t hash = 0;  // Of everything above; equal on all ranks.

  // Fraction of bucket elements that is padding: sum(ranks*segment)/payload-1.
  double PaddingFraction() const;
  // Largest rank's elements over the mean, minus 1; padding not counted.
  double Imbalance() const;
  // Fraction of elements in buckets that are cut in place.
  double InPlaceFraction() const;
  int64_t LargestBucketBytes() const;  // fp32, padding included.
  // Share of the elements in buckets that can leave before backward reaches the
  // first layer: that hold nothing of it nor of what comes before it.
  double EarlyFraction() const;

  std::string ToTable() const;  // For people: one line a bucket, then totals.
  std::string ToJson() const;   // All of it, for machines.
};

// InvalidArgument, naming the parameter, for: an empty or duplicate name, a
// non-positive or over-large shape, a rule that does not fit the shape, a tie
// to an unknown, later or differently shaped parameter, a tensor that by its
// rows, its orientation or its dimensions is not what its name says, a model
// shape of no model, ranks * replicas not in 1..kMaxPlanRanks, stage not in
// 1..3.
absl::StatusOr<Plan> MakePlan(absl::Span<const ParamSpec> params,
                              const PlanOptions& options);

// Stage 3: what Optimizer::Gather(layer_set) takes of gather_budget_bytes: its
// regions, and a buffer for each bucket that is not in place. 0 if no parameter
// with state is in it.
int64_t GatherBytes(const Plan& plan, int layer_set);

// What rows have on the wire and in the state. They must be whole units of the
// parameter where a unit has not as many as at rest.
int64_t WireElements(const PlannedParam& param, int64_t first_row,
                     int64_t rows);
int64_t StateElements(const PlannedParam& param, int64_t first_row,
                      int64_t rows);

// Rows of a matrix with column averages whose squares are added up in double
// before they are added to those of others, exactly; such a group stays on one
// rank. Of so many rows with BlockCuts::kWhole, in matrices of 64 groups and
// more that they divide; else of one. Any number of ranks then has the bits of
// one rank with the same BlockCuts.
inline constexpr int64_t kColumnGroupRows = 8;
int64_t ColumnGroupRowsOf(int64_t matrix_rows, BlockCuts cuts);

// Rows of a parameter whose second moments are averages over columns, or
// products with such: a segment of `blocks` as often as it repeats.
struct ColumnedMatrix {
  MomentForm form = MomentForm::kFactored;
  int64_t first_row = 0;  // Of the parameter.
  int64_t rows = 0;
  // Those that count in the averages: padding rows left out, but for a matrix
  // of nothing else.
  int64_t counted_rows = 0;
};
// In the order of their rows; none if there are only blocks or elements.
std::vector<ColumnedMatrix> MatricesOf(const PlannedParam& param);

// Blocks of a run, merged where neighbours are of equal size and of the same
// matrix, if of any.
struct BlockSpan {
  int64_t first_row = 0;       // Of the parameter.
  int64_t first_block = 0;     // Of the parameter.
  int64_t blocks = 0;          // At least partly in the run.
  int64_t rows_per_block = 0;  // Rows present here (all, unless split).
  int64_t block_elements = 0;  // Of a whole block, padding rows left out.
  bool split = false;          // Then blocks == 1.
  // Not kBlocks: `blocks` are rows of the matrix with that index in
  // MatricesOf(). Of kColumns they have no scalars, and no index.
  MomentForm form = MomentForm::kBlocks;
  int64_t matrix = -1;

  int64_t scalars() const { return form == MomentForm::kColumns ? 0 : blocks; }
};
std::vector<BlockSpan> SpansOf(const PlannedParam& param, const Run& run);

// Known models for planning: "llama-2-7b", "llama-2-13b", "llama-3-8b",
// "llama-3-70b", "gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl". The params
// carry HF names, in forward order, with null data.
struct ModelPreset {
  std::string name;
  ModelShape shape;
  std::vector<ParamSpec> params;
};
absl::StatusOr<ModelPreset> FindPreset(absl::string_view name);
std::vector<std::string> PresetNames();

}  // namespace zeromini

#endif  // ZEROMINI_PLAN_H_
