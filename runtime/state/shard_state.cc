#include "runtime/state/shard_state.h"

#include <utility>

#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

constexpr int64_t kScaleBytes = sizeof(uint16_t);

}  // namespace

absl::StatusOr<ShardState> ShardState::Create(const Plan& plan,
                                              const OptimizerOptions& options,
                                              const RankGroups& groups,
                                              Device& device) {
  ZEROMINI_ASSIGN_OR_RETURN(
      ColumnState columns,
      ColumnState::Create(plan, options, groups.world().rank(), device));
  ShardState state(plan, std::move(columns), device);
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
  PlaceColumns(columns_.layout(), &part.layout);
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

StateCodecArgs ShardState::CodecOf(const RunState& run, RowRange rows,
                                   const StateMemory& memory) {
  const StateFormat format = run.format.state;
  const int64_t row_elements = run.state_row_elements();
  const int64_t values = rows.first * row_elements * StateBytes(format);
  const int64_t scales =
      rows.first * ScalesPerRow(format, row_elements) * kScaleBytes;
  StateCodecArgs codec = {};
  codec.packed = At(memory.buffer, memory.values_at + values);
  codec.scales =
      static_cast<uint16_t*>(At(memory.buffer, memory.scales_at + scales));
  codec.row_elements = row_elements;
  codec.format = format;
  codec.squares = memory.what == Rounded::kSecondMoment;
  codec.seed = RoundingSeed(memory.what, run.param->name);
  if (run.projected()) {
    ZEROMINI_CHECK(rows.first == 0 && rows.count == run.run->rows);
    codec.rows = run.state_rows();
    codec.first_element = StateElements(*run.param, 0, run.run->first_row);
    return codec;
  }
  codec.rows = rows.count;
  codec.first_element = (run.run->first_row + rows.first) * row_elements;
  return codec;
}

StateCodecArgs ShardState::MomentumCodec(int bucket, const RunState& run,
                                         RowRange rows) const {
  return CodecOf(run, rows,
                 {parts_[bucket].momentum, run.momentum_at,
                  run.momentum_scales_at, Rounded::kMomentum});
}

StateCodecArgs ShardState::SecondMomentCodec(int bucket, const RunState& run,
                                             RowRange rows) const {
  return CodecOf(run, rows,
                 {parts_[bucket].second_moment, run.second_moment_at,
                  run.second_moment_scales_at, Rounded::kSecondMoment});
}

}  // namespace zeromini
