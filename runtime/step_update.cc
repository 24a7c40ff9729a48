// The second half of a step: kernels and the weights' way back.

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/agreement.h"
#include "runtime/step_pipeline.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

StepScalars StepPipeline::ScalarsOf(const PlannedParam& param, int index,
                                    const StepOptions& options) const {
  const ParamGroup& group = groups_[param.group];
  const bool decays = param.decays || group.decay_norms_and_biases;
  StepScalars scalars;
  scalars.learning_rate = options.learning_rate * group.learning_rate_scale;
  scalars.weight_decay = decays ? group.weight_decay : 0;
  scalars.beta1 = group.beta1;
  scalars.beta2 = group.beta2;
  scalars.epsilon = group.epsilon;
  scalars.step = steps_[index] + 1;
  scalars.gradient_scale = gradient_scale_;
  return scalars;
}

void StepPipeline::UpdateRun(int bucket, const RunState& state, float* segment,
                             const StepScalars& scalars, Stream stream) {
  const PlannedParam& param = *state.param;
  const Run& run = *state.run;
  const KernelTable& kernels = device_.kernels();
  const RowRange rows = {run.first_row, run.rows};
  float* tensor = store_.weights(run.param);
  float* place = segment == nullptr ? nullptr : segment + run.offset;
  BucketShard& shard = shards_[bucket];
  // A master, or flat memory: the segment itself is what is updated.
  const bool in_place =
      shard.master() != nullptr || store_.flat_weights(bucket) != nullptr;
  const bool direct = !in_place && !param.transposed;
  if (!in_place && param.transposed) {
    PackRows(kernels, param, rows, tensor, place, stream);
  }
  const int64_t second_moment_offset =
      param.element_state ? state.second_moment_offset : 0;
  method_.Update(
      kernels,
      RunUpdate{param, run, state.spans,
                direct ? tensor + run.first_row * param.row_elements : place,
                buckets_[bucket]->shard() + run.wire_offset,
                shard.momentum() + run.state_offset,
                shard.second_moment() + second_moment_offset,
                shard.block_sums(), !NeedsStatistics(), scalars},
      stream);
  if (direct && place != nullptr) {
    PackRows(kernels, param, rows, tensor, place, stream);
  }
}

void StepPipeline::SubmitUpdate(int bucket, float* segment,
                                const StepOptions& options) {
  // By value: the step counters move on before the stream gets here.
  std::vector<StepScalars> scalars;
  for (const RunState& state : shards_[bucket].runs()) {
    scalars.push_back(ScalarsOf(*state.param, state.run->param, options));
  }
  device_.Submit(device_.compute(), [this, bucket, segment,
                                     scalars = std::move(scalars)](Stream on) {
    const int64_t start = absl::GetCurrentTimeNanos();
    const std::vector<RunState>& runs = shards_[bucket].runs();
    for (size_t r = 0; r < runs.size(); ++r) {
      if (!present_[runs[r].run->param]) continue;
      UpdateRun(bucket, runs[r], segment, scalars[r], on);
    }
    kernel_nanos_ += absl::GetCurrentTimeNanos() - start;
    return absl::OkStatus();
  });
}

void StepPipeline::TakeMaster() {
  device_.Submit(device_.compute(), [this](Stream on) {
    for (BucketShard& shard : shards_) {
      shard.TakeMaster(device_.kernels(), store_, on);
    }
    return absl::OkStatus();
  });
}

absl::Status StepPipeline::UpdateBuckets(const StepOptions& options) {
  // With a new master the weights are not rounded yet: all of them travel, the
  // absent ones too.
  const bool takes_master = KeepsMaster() && !has_master_;
  const std::vector<char>& moved = takes_master ? everything_ : present_;
  if (takes_master) TakeMaster();
  int travelling = -1;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    const int bucket = static_cast<int>(b);
    const std::vector<int>& params = plan_.buckets[b].params;
    // Presence is global, so all ranks leave out the same buckets.
    if (std::none_of(params.begin(), params.end(),
                     [&](int p) { return moved[p] != 0; })) {
      continue;
    }
    ZEROMINI_ASSIGN_OR_RETURN(float* segment, gather_.Open(bucket));
    if (KeepsMaster()) segment = shards_[b].master();
    SubmitUpdate(bucket, segment, options);
    buckets_[b]->SetBusy(device_.Record(device_.compute()));
    ZEROMINI_RETURN_IF_ERROR(gather_.Send(bucket, segment));
    // One bucket late, so that this bucket's kernel does not wait for the
    // weights of the one before.
    if (travelling >= 0) {
      ZEROMINI_RETURN_IF_ERROR(gather_.Unpack(travelling, moved));
    }
    travelling = bucket;
  }
  if (travelling >= 0) {
    ZEROMINI_RETURN_IF_ERROR(gather_.Unpack(travelling, moved));
  }
  has_master_ = KeepsMaster();
  return absl::OkStatus();
}

absl::Status StepPipeline::UpdateAll(const StepOptions& options) {
  for (size_t s = 0; s < plan_.split_blocks.size(); ++s) {
    const int split = static_cast<int>(s);
    const int param = plan_.split_blocks[s].param;
    shards_[plan_.params[param].bucket].SetSplitSum(split,
                                                    scalars_.SplitSum(split));
  }
  ZEROMINI_RETURN_IF_ERROR(UpdateBuckets(options));
  for (size_t p = 0; p < steps_.size(); ++p) {
    if (present_[p]) ++steps_[p];
  }
  return options.wait ? WaitAll() : absl::OkStatus();
}

absl::Status StepPipeline::WaitParam(int param, Stream stream) {
  const PlannedParam& given = plan_.params[param];
  const int bucket =
      given.tied_to >= 0 ? plan_.params[given.tied_to].bucket : given.bucket;
  if (bucket < 0) return absl::OkStatus();
  const Event& done = gather_.done(bucket);
  if (stream.native != nullptr) return device_.WaitFor(stream, done);
  return device_.Synchronize(done, absl::Now() + StreamPatience(group_));
}

absl::Status StepPipeline::WaitAll() {
  for (size_t b = 0; b < buckets_.size(); ++b) {
    ZEROMINI_RETURN_IF_ERROR(
        device_.Synchronize(gather_.done(static_cast<int>(b)),
                            absl::Now() + StreamPatience(group_)));
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::Drain() {
  const absl::Time deadline = absl::Now() + StreamPatience(group_);
  absl::Status group =
      device_.Synchronize(device_.Record(group_.stream()), deadline);
  absl::Status compute =
      device_.Synchronize(device_.Record(device_.compute()), deadline);
  return group.ok() ? compute : group;
}

}  // namespace zeromini
