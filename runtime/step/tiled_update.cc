#include "runtime/step/tiled_update.h"

#include <algorithm>
#include <utility>

#include "runtime/state/rounding_seed.h"
#include "shard/tiles.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
absl::StatusOr<TiledUpdate> TiledUpdate::Create(const Plan& plan,
                                                const OptimizerOptions& options,
                                                Device& device) {
  TiledUpdate update;
  update.elements_ = LargestTile(plan, options);
  ZEROMINI_ASSIGN_OR_RETURN(update.scratch_,
                            device.Allocate(TileScratchBytes(update.elements_),
                                            MemoryKind::kStatistics));
  return update;
}

int64_t TiledUpdate::RowsPerTile(const PlannedParam& param) const {
  return std::max<int64_t>(1, kTileElements / param.row_elements);
}

absl::Status TiledUpdate::Run(const KernelTable& kernels, const RunJob& job,
                              Stream on) const {
  const RunState& run = job.run;
  const auto rule = job.method.method->CodedRule(*run.param);
  if (rule.has_value() && kernels.coded_update != nullptr) {
    return RunCoded(kernels, job, *rule, on);
  }
  if (!run.param->element_state) {
    for (const SpanState& span : run.spans) {
      ZEROMINI_RETURN_IF_ERROR(RunSpan(kernels, job, span, on));
    }
    return absl::OkStatus();
  }
  const int64_t at_once =
      IsOneTile(*run.param, *run.run) ? run.run->rows : RowsPerTile(*run.param);
  for (int64_t row = 0; row < run.run->rows; row += at_once) {
    const RowRange rows = {row, std::min(at_once, run.run->rows - row)};
    ZEROMINI_RETURN_IF_ERROR(RunTile(kernels, job, {rows}, on));
  }
  return absl::OkStatus();
}

absl::Status TiledUpdate::RunCoded(const KernelTable& kernels,
                                   const RunJob& job, UpdateRule rule,
                                   Stream on) const {
  if (rule != UpdateRule::kAdamMini) {
    return kernels.coded_update(CodedArgs(job, rule, {0, job.run.run->rows}),
                                on);
  }
  for (const SpanState& span : job.run.spans) {
    ZEROMINI_RETURN_IF_ERROR(kernels.coded_update(SpanArgs(job, span), on));
  }
  return absl::OkStatus();
}

CodedUpdateArgs TiledUpdate::SpanArgs(const RunJob& job,
                                      const SpanState& state) const {
  const BlockSpan& span = state.span;
  const RowRange rows = {span.first_row - job.run.run->first_row,
                         span.blocks * span.rows_per_block};
  float* const moments =
      job.state.block_scalars(job.bucket) + state.second_moment_offset;
  const double* const sums = job.block_sums + state.sums_offset;
  if (span.matrix < 0) {
    CodedUpdateArgs args = CodedArgs(job, UpdateRule::kAdamMini, rows);
    args.block_moments = moments;
    args.block_sums = sums;
    args.blocks = span.blocks;
    args.block_elements = span.block_elements;
    return args;
  }
  CodedUpdateArgs args = CodedArgs(job, UpdateRule::kFactored, rows);
  args.column_factors = job.state.columns().factors() + state.columns_at;
  if (span.form == MomentForm::kFactored) {
    args.row_moments = moments;
    args.row_sums = sums;
  }
  return args;
}

CodedUpdateArgs TiledUpdate::CodedArgs(const RunJob& job, UpdateRule rule,
                                       RowRange rows) const {
  CodedUpdateArgs args = {};
  args.rule = rule;
  args.weights = WeightCodec(job, rows);
  args.momentum = job.state.MomentumCodec(job.bucket, job.run, rows);
  if (rule == UpdateRule::kAdamW) {
    args.second_moment = job.state.SecondMomentCodec(job.bucket, job.run, rows);
  }
  args.gradient = job.gradient + rows.first * job.run.param->row_elements;
  args.scalars = job.scalars;
  return args;
}

absl::Status TiledUpdate::RunSpan(const KernelTable& kernels, const RunJob& job,
                                  const SpanState& span, Stream on) const {
  const BlockSpan& blocks = span.span;
  const int64_t rows_per_block = blocks.rows_per_block;
  const int64_t at_once = RowsPerTile(*job.run.param) / rows_per_block;
  float* scalars =
      job.state.block_scalars(job.bucket) + span.second_moment_offset;
  SpanState part = span;
  part.second_moment_offset = 0;
  for (int64_t b = 0; b < blocks.blocks; b += part.span.blocks) {
    part.span.blocks =
        std::min(std::max<int64_t>(1, at_once), blocks.blocks - b);
    part.span.first_row = blocks.first_row + b * rows_per_block;
    part.sums_offset = span.sums_offset + b;
    if (at_once == 0) {
      part.second_moment_offset = span.second_moment_offset + b;
      ZEROMINI_RETURN_IF_ERROR(RunLargeBlock(kernels, job, part, on));
      continue;
    }
    const RowRange rows = {part.span.first_row - job.run.run->first_row,
                           part.span.blocks * rows_per_block};
    ZEROMINI_RETURN_IF_ERROR(
        RunTile(kernels, job, {rows, &part, scalars + b}, on));
  }
  return absl::OkStatus();
}

// A block of several tiles: each starts from the block's scalar as it was, in a
// copy; the last one's is what the block gets.
absl::Status TiledUpdate::RunLargeBlock(const KernelTable& kernels,
                                        const RunJob& job,
                                        const SpanState& block,
                                        Stream on) const {
  const int64_t rows_at_once = RowsPerTile(*job.run.param);
  const int64_t rows_per_block = block.span.rows_per_block;
  float* const scalar =
      job.state.block_scalars(job.bucket) + block.second_moment_offset;
  float* const copy = Floats(scratch_) + 3 * elements_;
  SpanState part = block;
  part.second_moment_offset = 0;
  for (int64_t row = 0; row < rows_per_block; row += rows_at_once) {
    part.span.rows_per_block = std::min(rows_at_once, rows_per_block - row);
    part.span.first_row = block.span.first_row + row;
    const RowRange rows = {part.span.first_row - job.run.run->first_row,
                           part.span.rows_per_block};
    ZEROMINI_RETURN_IF_ERROR(
        CopyContiguous(kernels, scalar, copy, 1, CopyTypes{}, on));
    ZEROMINI_RETURN_IF_ERROR(RunTile(kernels, job, {rows, &part, copy}, on));
  }
  return CopyContiguous(kernels, copy, scalar, 1, CopyTypes{}, on);
}

WeightCodecArgs TiledUpdate::WeightCodec(const RunJob& job,
                                         RowRange rows) const {
  const PlannedParam& param = *job.run.param;
  const ShardFormat& format = job.run.format;
  const int64_t at = rows.first * param.row_elements;
  WeightCodecArgs codec = {};
  codec.weights = ElementAt(job.weights, at, format.weights);
  codec.dtype = format.weights;
  codec.format =
      format.weights == DType::kFloat32 ? MasterFormat::kNone : format.master;
  if (codec.format != MasterFormat::kNone) {
    codec.master = static_cast<char*>(job.state.master(job.bucket, job.run)) +
                   at * MasterBytes(format.master);
  }
  codec.unpacked = Floats(scratch_);
  codec.elements = rows.count * param.row_elements;
  codec.seed = RoundingSeed(Rounded::kWeights, param.name);
  codec.first_element = job.run.run->first_row * param.row_elements + at;
  codec.scalars = job.scalars;
  return codec;
}

absl::Status TiledUpdate::RunTile(const KernelTable& kernels, const RunJob& job,
                                  const Tile& tile, Stream on) const {
  const PlannedParam& param = *job.run.param;
  const RowRange rows = tile.rows;
  float* const scratch = Floats(scratch_);
  const WeightCodecArgs weights = WeightCodec(job, rows);
  StateCodecArgs momentum = job.state.MomentumCodec(job.bucket, job.run, rows);
  momentum.unpacked = scratch + elements_;
  momentum.scalars = job.scalars;
  StateCodecArgs moments =
      job.state.SecondMomentCodec(job.bucket, job.run, rows);
  moments.unpacked = scratch + 2 * elements_;
  moments.scalars = job.scalars;
  const bool elementwise = job.run.element_moments();

  ZEROMINI_RETURN_IF_ERROR(kernels.unpack_weights(weights, on));
  ZEROMINI_RETURN_IF_ERROR(kernels.unpack_state(momentum, on));
  if (elementwise) ZEROMINI_RETURN_IF_ERROR(kernels.unpack_state(moments, on));
  zeromini::Run part = *job.run.run;
  part.first_row += rows.first;
  part.rows = rows.count;
  if (rows.count < job.run.run->rows) {
    part.wire_elements = part.state_elements = rows.count * param.row_elements;
  }
  std::vector<SpanState> spans;
  if (tile.blocks != nullptr) spans.push_back(*tile.blocks);
  ZEROMINI_RETURN_IF_ERROR(job.method.method->Update(
      kernels,
      {param, part, spans, weights.unpacked,
       job.gradient + rows.first * param.row_elements, momentum.unpacked,
       elementwise ? moments.unpacked : tile.block_scalars, job.block_sums,
       /*fused=*/false, job.state.columns().factors(), job.scalars,
       job.method.shared.get(), job.full_gradient},
      on));
  ZEROMINI_RETURN_IF_ERROR(kernels.pack_weights(weights, on));
  ZEROMINI_RETURN_IF_ERROR(kernels.pack_state(momentum, on));
  if (elementwise) return kernels.pack_state(moments, on);
  return absl::OkStatus();
}

}  // namespace zeromini
