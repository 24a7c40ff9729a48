#include "runtime/state/bucket_shard.h"

#include <algorithm>
#include <utility>

#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

int FindSplit(const Plan& plan, int param, int64_t block) {
  for (size_t i = 0; i < plan.split_blocks.size(); ++i) {
    const SplitBlock& split = plan.split_blocks[i];
    if (split.param == param && split.block == block) return int(i);
  }
  return -1;
}

// Gives each run a place in one buffer: the wider the elements, the earlier, so
// that all are aligned and none is padded. The bytes of all.
class Placement {
 public:
  explicit Placement(int64_t begin) : bytes_(begin) {}

  // `width` of a run's elements and how many; `at` is filled in by Place().
  void Add(int64_t width, int64_t count, int64_t* at) {
    if (width > 0) items_.push_back({width, count, at});
  }

  int64_t Place() {
    std::stable_sort(
        items_.begin(), items_.end(),
        [](const Item& a, const Item& b) { return a.width > b.width; });
    for (const Item& item : items_) {
      *item.at = bytes_;
      bytes_ += item.width * item.count;
    }
    return bytes_;
  }

 private:
  struct Item {
    int64_t width;
    int64_t count;
    int64_t* at;
  };
  std::vector<Item> items_;
  int64_t bytes_;
};

constexpr int64_t kScaleBytes = sizeof(uint16_t);

int64_t ScalesOf(const RunState& state) {
  return state.run->rows *
         ScalesPerRow(state.format.state, state.param->state_row_elements);
}

}  // namespace

absl::StatusOr<BucketShard> BucketShard::Create(const Plan& plan, int bucket,
                                                int rank,
                                                const OptimizerOptions& options,
                                                bool wire_master,
                                                Device& device) {
  const BucketPlan& layout = plan.buckets[bucket];
  BucketShard shard;
  int64_t block_scalars = 0;
  int64_t sums = 0;
  for (const Run& run : layout.runs[rank]) {
    RunState state;
    state.run = &run;
    state.param = &plan.params[run.param];
    state.format = FormatOf(*state.param, options);
    if (!state.param->element_state) {
      shard.AddSpans(plan, &state, &block_scalars, &sums);
    }
    shard.runs_.push_back(std::move(state));
  }
  shard.finite_.resize(shard.runs_.size(), 1);
  shard.partials_.resize(shard.splits_.size());
  ZEROMINI_RETURN_IF_ERROR(shard.AllocateState(block_scalars, device));
  if (wire_master) {
    ZEROMINI_ASSIGN_OR_RETURN(
        shard.wire_master_,
        device.Allocate(layout.segment * int64_t{sizeof(float)},
                        MemoryKind::kMaster));
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      shard.block_sums_,
      device.Allocate(sums * int64_t{sizeof(double)}, MemoryKind::kStatistics));
  return shard;
}

void BucketShard::AddSpans(const Plan& plan, RunState* state,
                           int64_t* block_scalars, int64_t* sums) {
  const Run& run = *state->run;
  for (const BlockSpan& span : SpansOf(*state->param, run)) {
    const int split =
        span.split ? FindSplit(plan, run.param, span.first_block) : -1;
    ZEROMINI_CHECK(span.split == (split >= 0));
    state->spans.push_back({span, *block_scalars, *sums, split});
    if (split >= 0 && PartialOf(split) == int(splits_.size())) {
      splits_.push_back(split);
    }
    *block_scalars += span.blocks;
    *sums += span.blocks;
  }
}

absl::Status BucketShard::AllocateState(int64_t block_scalars, Device& device) {
  Placement momentum(0);
  Placement second_moment(block_scalars * int64_t{sizeof(float)});
  Placement master(0);
  for (RunState& state : runs_) {
    const int64_t elements = state.state_elements();
    const int64_t width = StateBytes(state.format.state);
    momentum.Add(width, elements, &state.momentum_at);
    momentum.Add(kScaleBytes, ScalesOf(state), &state.momentum_scales_at);
    if (state.param->element_state && state.param->keeps_second_moment()) {
      second_moment.Add(width, elements, &state.second_moment_at);
      second_moment.Add(kScaleBytes, ScalesOf(state),
                        &state.second_moment_scales_at);
    }
    master.Add(MasterBytes(state.format.master),
               state.run->rows * state.param->row_elements, &state.master_at);
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      momentum_, device.Allocate(momentum.Place(), MemoryKind::kMomentum));
  ZEROMINI_ASSIGN_OR_RETURN(
      second_moment_,
      device.Allocate(second_moment.Place(), MemoryKind::kSecondMoment));
  ZEROMINI_ASSIGN_OR_RETURN(
      master_, device.Allocate(master.Place(), MemoryKind::kMaster));
  return absl::OkStatus();
}

StateCodecArgs BucketShard::Codec(const RunState& state, RowRange rows,
                                  const Buffer& buffer, int64_t values_at,
                                  int64_t scales_at) {
  const int64_t row_elements = state.param->state_row_elements;
  const StateFormat format = state.format.state;
  const int64_t at = rows.first * row_elements;
  const int64_t scales = rows.first * ScalesPerRow(format, row_elements);
  StateCodecArgs codec = {};
  codec.packed = At(buffer, values_at + at * StateBytes(format));
  codec.scales =
      static_cast<uint16_t*>(At(buffer, scales_at + scales * kScaleBytes));
  codec.rows = rows.count;
  codec.row_elements = row_elements;
  codec.format = format;
  codec.first_element = state.run->first_row * row_elements + at;
  return codec;
}

StateCodecArgs BucketShard::MomentumCodec(const RunState& state, RowRange rows,
                                          int64_t step, float* unpacked) {
  StateCodecArgs codec = Codec(state, rows, momentum_, state.momentum_at,
                               state.momentum_scales_at);
  codec.unpacked = unpacked;
  codec.seed = RoundingSeed(Rounded::kMomentum, state.run->param, step);
  return codec;
}

StateCodecArgs BucketShard::SecondMomentCodec(const RunState& state,
                                              RowRange rows, int64_t step,
                                              float* unpacked) {
  StateCodecArgs codec =
      Codec(state, rows, second_moment_, state.second_moment_at,
            state.second_moment_scales_at);
  codec.unpacked = unpacked;
  codec.squares = true;
  codec.seed = RoundingSeed(Rounded::kSecondMoment, state.run->param, step);
  return codec;
}

}  // namespace zeromini
