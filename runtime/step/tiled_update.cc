#include "runtime/step/tiled_update.h"

#include <algorithm>
#include <utility>

#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Three arrays of a tile, its gradient and its packed forms stay within half of
// a second-level cache of 256 KiB.
constexpr int64_t kTileElements = 8192;

}  // namespace

absl::StatusOr<TiledUpdate> TiledUpdate::Create(const Plan& plan,
                                                const OptimizerOptions& options,
                                                Device& device) {
  TiledUpdate update;
  if (!HasCodedShards(plan, options)) return update;
  update.elements_ = kTileElements;
  for (const PlannedParam& param : plan.params) {
    if (param.bucket < 0) continue;
    update.elements_ = std::max(update.elements_, param.row_elements);
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      update.scratch_,
      device.Allocate(3 * update.elements_ * int64_t{sizeof(float)},
                      MemoryKind::kStatistics));
  return update;
}

int64_t TiledUpdate::RowsPerTile(const PlannedParam& param) const {
  return std::max<int64_t>(1, kTileElements / param.row_elements);
}

void TiledUpdate::Run(const Method& method, const KernelTable& kernels,
                      const RunState& state, BucketShard& shard, void* weights,
                      const float* gradient, const StepScalars& scalars,
                      Stream stream) {
  const Job job = {method,  kernels,  state,   shard,
                   weights, gradient, scalars, stream};
  if (!state.param->element_state) {
    for (const SpanState& span : state.spans) RunSpan(job, span);
    return;
  }
  const int64_t at_once = RowsPerTile(*state.param);
  for (int64_t row = 0; row < state.run->rows; row += at_once) {
    RunTile(job, {row, std::min(at_once, state.run->rows - row)}, {}, nullptr);
  }
}

void TiledUpdate::RunSpan(const Job& job, const SpanState& span) {
  const BlockSpan& blocks = span.span;
  const int64_t first = blocks.first_row - job.state.run->first_row;
  const int64_t rows_per_block = blocks.rows_per_block;
  const int64_t rows_at_once = RowsPerTile(*job.state.param);
  float* scalars = job.shard.block_scalars() + span.second_moment_offset;
  const int64_t blocks_at_once = rows_at_once / rows_per_block;
  SpanState part = span;
  part.second_moment_offset = 0;
  if (blocks_at_once > 0) {
    for (int64_t b = 0; b < blocks.blocks; b += blocks_at_once) {
      part.span.blocks = std::min(blocks_at_once, blocks.blocks - b);
      part.span.first_row = blocks.first_row + b * rows_per_block;
      part.sums_offset = span.sums_offset + b;
      RunTile(job,
              {first + b * rows_per_block, part.span.blocks * rows_per_block},
              {part}, scalars + b);
    }
    return;
  }
  // A block of several tiles: each starts from the block's scalar as it was.
  part.span.blocks = 1;
  for (int64_t b = 0; b < blocks.blocks; ++b) {
    float updated = scalars[b];
    for (int64_t row = 0; row < rows_per_block; row += rows_at_once) {
      updated = scalars[b];
      part.span.rows_per_block = std::min(rows_at_once, rows_per_block - row);
      part.span.first_row = blocks.first_row + b * rows_per_block + row;
      part.sums_offset = span.sums_offset + b;
      RunTile(job,
              {part.span.first_row - job.state.run->first_row,
               part.span.rows_per_block},
              {part}, &updated);
    }
    scalars[b] = updated;
  }
}

void TiledUpdate::RunTile(const Job& job, RowRange rows,
                          const std::vector<SpanState>& spans,
                          float* block_scalars) {
  const RunState& state = job.state;
  const PlannedParam& param = *state.param;
  const int64_t step = job.scalars.step;
  const int64_t at = rows.first * param.row_elements;
  const ShardFormat& format = state.format;
  float* scratch = Floats(scratch_);

  WeightCodecArgs weights = {};
  weights.weights = ElementAt(job.weights, at, format.weights);
  weights.master = job.shard.master(state);
  if (weights.master != nullptr) {
    weights.master =
        static_cast<char*>(weights.master) + at * MasterBytes(format.master);
  }
  weights.unpacked = scratch;
  weights.elements = rows.count * param.row_elements;
  weights.dtype = format.weights;
  weights.format = format.master;
  weights.seed = RoundingSeed(Rounded::kWeights, state.run->param, step);
  weights.first_element = state.run->first_row * param.row_elements + at;

  const StateCodecArgs momentum =
      job.shard.MomentumCodec(state, rows, step, scratch + elements_);
  const bool elementwise = param.element_state && param.keeps_second_moment();
  const StateCodecArgs second_moment =
      job.shard.SecondMomentCodec(state, rows, step, scratch + 2 * elements_);

  job.kernels.unpack_weights(weights, job.stream);
  job.kernels.unpack_state(momentum, job.stream);
  if (elementwise) job.kernels.unpack_state(second_moment, job.stream);
  zeromini::Run part = *state.run;
  part.first_row += rows.first;
  part.rows = rows.count;
  job.method.Update(
      job.kernels,
      RunUpdate{param, part, spans, weights.unpacked,
                job.gradient + rows.first * param.wire_row_elements,
                momentum.unpacked,
                elementwise ? second_moment.unpacked : block_scalars,
                job.shard.block_sums(), /*fused=*/false, job.scalars},
      job.stream);
  job.kernels.pack_weights(weights, job.stream);
  job.kernels.pack_state(momentum, job.stream);
  if (elementwise) job.kernels.pack_state(second_moment, job.stream);
}

}  // namespace zeromini
