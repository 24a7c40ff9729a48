#include "shard/shard_layout.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

constexpr int64_t kScaleBytes = sizeof(uint16_t);

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

int64_t ScalesOf(const RunState& state) {
  return state.state_rows() *
         ScalesPerRow(state.format.state, state.state_row_elements());
}

RunState StateOf(const Plan& plan, const Run& run,
                 const OptimizerOptions& options) {
  RunState state;
  state.run = &run;
  state.param = &plan.params[run.param];
  state.format = FormatOf(*state.param, options);
  return state;
}

// The bytes of the bucket's block scalars.
int64_t AddSpans(const Plan& plan, ShardLayout* layout) {
  int64_t scalars = 0;
  for (RunState& state : layout->runs) {
    if (state.param->element_state) continue;
    const Run& run = *state.run;
    for (const BlockSpan& span : SpansOf(*state.param, run)) {
      const int split =
          span.split ? FindSplit(plan, run.param, span.first_block) : -1;
      ZEROMINI_CHECK(span.split == (split >= 0));
      state.spans.push_back({span, scalars, layout->block_sums, split});
      std::vector<int>& splits = layout->splits;
      const bool listed =
          std::find(splits.begin(), splits.end(), split) != splits.end();
      if (split >= 0 && !listed) splits.push_back(split);
      scalars += span.scalars();
      layout->block_sums += span.scalars();
    }
  }
  return scalars * int64_t{sizeof(float)};
}

void PlaceState(int64_t block_scalar_bytes, ShardLayout* layout) {
  Placement momentum(0);
  Placement second_moment(block_scalar_bytes);
  for (RunState& state : layout->runs) {
    const int64_t elements = state.run->state_elements;
    const int64_t width = StateBytes(state.format.state);
    momentum.Add(width, elements, &state.momentum_at);
    momentum.Add(kScaleBytes, ScalesOf(state), &state.momentum_scales_at);
    if (!state.element_moments()) continue;
    second_moment.Add(width, elements, &state.second_moment_at);
    second_moment.Add(kScaleBytes, ScalesOf(state),
                      &state.second_moment_scales_at);
  }
  layout->momentum_bytes = momentum.Place();
  layout->second_moment_bytes = second_moment.Place();
}

// The master of fp32 weights is what travels, so it is laid out as the segment,
// and there even where this rank has no rows.
void PlaceMasters(const BucketPlan& bucket, bool is_segment,
                  ShardLayout* layout) {
  if (is_segment) {
    layout->master_bytes = bucket.segment * int64_t{sizeof(float)};
    for (RunState& state : layout->runs) {
      state.master_at = state.run->offset * int64_t{sizeof(float)};
    }
    return;
  }
  Placement master(0);
  for (RunState& state : layout->runs) {
    master.Add(MasterBytes(state.format.master),
               state.run->rows * state.param->row_elements, &state.master_at);
  }
  layout->master_bytes = master.Place();
}

}  // namespace

int64_t ProjectedRowElements(const PlannedParam& param,
                             int64_t UnitSegment::*count) {
  int64_t common = 0;
  for (const UnitSegment& unit : param.units) {
    common = std::gcd(common, unit.*count);
  }
  return common;
}

ShardLayout LayoutOf(const Plan& plan, int bucket, int rank,
                     const OptimizerOptions& options) {
  ShardLayout layout;
  for (const Run& run : plan.buckets[bucket].runs[rank]) {
    layout.runs.push_back(StateOf(plan, run, options));
  }
  const int64_t block_scalar_bytes = AddSpans(plan, &layout);
  PlaceState(block_scalar_bytes, &layout);
  layout.master_is_segment = MasterIsSegment(plan, bucket, options);
  PlaceMasters(plan.buckets[bucket], layout.master_is_segment, &layout);
  return layout;
}

int64_t StateBytesOf(const Plan& plan, const Run& run,
                     const OptimizerOptions& options) {
  const RunState state = StateOf(plan, run, options);
  const int64_t values = StateBytes(state.format.state) * run.state_elements +
                         kScaleBytes * ScalesOf(state);
  int64_t bytes = state.element_moments() ? 2 * values : values;
  if (!state.param->element_state) {
    for (const BlockSpan& span : SpansOf(*state.param, run)) {
      bytes += span.scalars() * int64_t{sizeof(float)};
    }
  }
  if (!state.format.master_is_segment()) {
    bytes +=
        MasterBytes(state.format.master) * run.rows * state.param->row_elements;
  }
  return bytes;
}

}  // namespace zeromini
