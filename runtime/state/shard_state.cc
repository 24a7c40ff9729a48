#include "runtime/state/shard_state.h"

#include <utility>

#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int64_t kScaleBytes = sizeof(uint16_t);

// What momentum and second moments have in common.
StateCodecArgs CodecOf(const RunState& state, RowRange rows) {
  StateCodecArgs codec = {};
  codec.row_elements = state.state_row_elements();
  codec.format = state.format.state;
  if (state.projected()) {
    ZEROMINI_CHECK(rows.first == 0 && rows.count == state.run->rows);
    codec.rows = state.state_rows();
    codec.first_element = StateElements(*state.param, 0, state.run->first_row);
    return codec;
  }
  codec.rows = rows.count;
  codec.first_element =
      (state.run->first_row + rows.first) * codec.row_elements;
  return codec;
}

// In bytes from a run's first value or scale to those of `rows`.
struct RowOffsets {
  int64_t values;
  int64_t scales;
};
RowOffsets OffsetsOf(StateFormat format, int64_t row_elements, int64_t rows) {
  return {rows * row_elements * StateBytes(format),
          rows * ScalesPerRow(format, row_elements) * kScaleBytes};
}

}  // namespace

absl::StatusOr<ShardState> ShardState::Create(const Plan& plan,
                                              const OptimizerOptions& options,
                                              const RankGroups& groups,
                                              Device& device) {
  ShardState state(plan, device);
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const int rank = groups.of(plan.buckets[b]).shards->rank();
    ZEROMINI_ASSIGN_OR_RETURN(
        Part part, state.MakePart(static_cast<int>(b), rank, options));
    state.parts_.push_back(std::move(part));
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      state.steps_, device.Allocate(static_cast<int64_t>(plan.params.size()) *
                                        int64_t{sizeof(int64_t)},
                                    MemoryKind::kTables));
  return state;
}

absl::StatusOr<ShardState::Part> ShardState::MakePart(
    int bucket, int rank, const OptimizerOptions& options) const {
  Part part;
  part.layout = LayoutOf(*plan_, bucket, rank, options);
  ZEROMINI_ASSIGN_OR_RETURN(
      part.momentum,
      device_->Allocate(part.layout.momentum_bytes, MemoryKind::kMomentum));
  ZEROMINI_ASSIGN_OR_RETURN(part.second_moment,
                            device_->Allocate(part.layout.second_moment_bytes,
                                              MemoryKind::kSecondMoment));
  ZEROMINI_ASSIGN_OR_RETURN(
      part.master,
      device_->Allocate(part.layout.master_bytes, MemoryKind::kMaster));
  return part;
}

float* ShardState::master_segment(int bucket) const {
  const Part& part = parts_[bucket];
  return part.layout.master_is_segment ? Floats(part.master) : nullptr;
}

StateCodecArgs ShardState::MomentumCodec(int bucket, const RunState& run,
                                         RowRange rows) const {
  const auto at =
      OffsetsOf(run.format.state, run.state_row_elements(), rows.first);
  const Buffer& memory = parts_[bucket].momentum;
  StateCodecArgs codec = CodecOf(run, rows);
  codec.packed = At(memory, run.momentum_at + at.values);
  codec.scales =
      static_cast<uint16_t*>(At(memory, run.momentum_scales_at + at.scales));
  codec.seed = RoundingSeed(Rounded::kMomentum, run.param->name);
  return codec;
}

StateCodecArgs ShardState::SecondMomentCodec(int bucket, const RunState& run,
                                             RowRange rows) const {
  const auto at =
      OffsetsOf(run.format.state, run.state_row_elements(), rows.first);
  const Buffer& memory = parts_[bucket].second_moment;
  StateCodecArgs codec = CodecOf(run, rows);
  codec.packed = At(memory, run.second_moment_at + at.values);
  codec.scales = static_cast<uint16_t*>(
      At(memory, run.second_moment_scales_at + at.scales));
  codec.squares = true;
  codec.seed = RoundingSeed(Rounded::kSecondMoment, run.param->name);
  return codec;
}

}  // namespace zeromini
