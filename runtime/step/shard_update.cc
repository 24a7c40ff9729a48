#include "runtime/step/shard_update.h"

#include <utility>

#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::StatusOr<std::unique_ptr<ShardUpdate>> ShardUpdate::Create(
    const Parts& parts, const OptimizerOptions& options) {
  auto update = std::unique_ptr<ShardUpdate>(
      new ShardUpdate(parts, SumsOf(parts.plan, options).all));
  ZEROMINI_ASSIGN_OR_RETURN(
      update->tiles_, TiledUpdate::Create(parts.plan, options, parts.device));
  return update;
}

absl::Status ShardUpdate::TakeMaster(int bucket, const RunState& state) {
  const MasterFormat format = state.format.master;
  if (format == MasterFormat::kNone) return absl::OkStatus();
  Device& device = parts_.device;
  void* const master = parts_.state.master(bucket, state);
  const int64_t elements = state.run->rows * state.param->row_elements;
  if (format != MasterFormat::kFloat32) {
    return device.Zero(master, elements * MasterBytes(format),
                       device.compute());
  }
  return device.Launch(
      device.compute(), [this, bucket, run = state.run, master,
                         dtype = state.param->dtype](Stream on) {
        return parts_.home.CopyRun(bucket, *run, master,
                                   {dtype, DType::kFloat32}, on);
      });
}

absl::Status ShardUpdate::TakeMasters() {
  for (size_t b = 0; b < parts_.plan.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    for (const RunState& state : parts_.state.layout(bucket).runs) {
      if (parts_.state.has_master(state.run->param)) continue;
      ZEROMINI_RETURN_IF_ERROR(TakeMaster(bucket, state));
    }
  }
  for (size_t p = 0; p < parts_.plan.params.size(); ++p) {
    parts_.state.SetHasMaster(static_cast<int>(p), true);
  }
  return absl::OkStatus();
}

absl::Status ShardUpdate::Submit(int bucket, const WeightHome::Place& place,
                                 std::shared_ptr<const Moves> moves) {
  Device& device = parts_.device;
  const Stream compute = device.compute();
  const auto start = std::make_shared<int64_t>(0);
  device.Stamp(compute, [start](int64_t now) { *start = now; });
  const BucketJob job = {bucket, place, parts_.road.shard(bucket),
                         parts_.road.full(bucket)};
  const absl::Status launched = device.Launch(
      compute,
      [this, job, moves = std::move(moves)](Stream on) -> absl::Status {
        for (const RunState& state : parts_.state.layout(job.bucket).runs) {
          if (!moves->may[state.run->param]) continue;
          ZEROMINI_RETURN_IF_ERROR(UpdateRun(job, state, on));
        }
        return absl::OkStatus();
      });
  ZEROMINI_RETURN_IF_ERROR(launched);
  device.Stamp(compute, [start, nanos = nanos_](int64_t now) {
    *nanos += now - *start;
  });
  return absl::OkStatus();
}

absl::Status ShardUpdate::UpdateRun(const BucketJob& job, const RunState& state,
                                    Stream on) const {
  const WeightHome::Place& place = job.place;
  const Run& run = *state.run;
  const PlannedParam& param = *state.param;
  void* const packed = ElementAt(place.segment, run.offset, param.dtype);
  if (place.in_segment) return UpdateAt(job, state, packed, on);
  const KernelTable& kernels = parts_.device.kernels();
  void* const tensor = parts_.home.tensor(run.param);
  const RowCopy pack = {param,
                        {run.first_row, run.rows},
                        tensor,
                        packed,
                        {param.dtype, param.dtype}};
  if (param.transposed) {
    ZEROMINI_RETURN_IF_ERROR(PackRows(kernels, pack, on));
    return UpdateAt(job, state, packed, on);
  }
  ZEROMINI_RETURN_IF_ERROR(UpdateAt(
      job, state,
      ElementAt(tensor, run.first_row * param.row_elements, param.dtype), on));
  return packed == nullptr ? absl::OkStatus() : PackRows(kernels, pack, on);
}

absl::Status ShardUpdate::UpdateAt(const BucketJob& work, const RunState& state,
                                   void* weights, Stream on) const {
  const KernelTable& kernels = parts_.device.kernels();
  const Run& run = *state.run;
  const int bucket = work.bucket;
  const BucketPlan& plan = parts_.plan.buckets[bucket];
  const WireLayout wire = work.full_gradients ? plan.full_wire() : plan.wire();
  const RunJob job = {parts_.methods[run.param],
                      state,
                      parts_.state,
                      bucket,
                      weights,
                      work.shard + wire.OffsetOf(run),
                      parts_.road.block_sums(bucket),
                      parts_.decider.scalars(run.param),
                      work.full_gradients};
  if (!state.format.plain()) return tiles_.Run(kernels, job, on);
  float* const second_moment =
      state.param->element_state
          ? static_cast<float*>(parts_.state.second_moment(bucket, state))
          : parts_.state.block_scalars(bucket);
  return job.method.method->Update(
      kernels,
      {*state.param, run, state.spans, static_cast<float*>(weights),
       job.gradient, static_cast<float*>(parts_.state.momentum(bucket, state)),
       second_moment, job.block_sums, !takes_all_sums_,
       parts_.state.columns().factors(), job.scalars, job.method.shared.get(),
       job.full_gradient},
      on);
}

}  // namespace zeromini
