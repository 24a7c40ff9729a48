// The second half of a step: kernels and the weights' way back.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/group/agreement.h"
#include "runtime/step/step_pipeline.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

StepScalars StepPipeline::ScalarsOf(const PlannedParam& param, int index,
                                    const StepOptions& options) const {
  const HyperGroup& group = groups_[param.hyper_group];
  StepScalars scalars;
  scalars.learning_rate = options.learning_rate * group.learning_rate_scale;
  scalars.weight_decay = Decays(param) ? group.weight_decay : 0;
  scalars.beta1 = group.beta1;
  scalars.beta2 = group.beta2;
  scalars.epsilon = group.epsilon;
  scalars.step = steps_[index] + 1;
  scalars.gradient_scale = gradient_scale_;
  return scalars;
}

void StepPipeline::UpdateRun(int bucket, const RunState& state, void* segment,
                             const StepScalars& scalars, Stream stream) {
  const PlannedParam& param = *state.param;
  const Run& run = *state.run;
  const KernelTable& kernels = device_.kernels();
  const RowRange rows = {run.first_row, run.rows};
  const CopyTypes types = {param.dtype, param.dtype};
  void* place = ElementAt(segment, run.offset, param.dtype);
  BucketShard& shard = shards_[bucket];
  // A master, a shard or flat memory: the segment itself is what is updated.
  const bool in_place = options_.stage == 3 || shard.wire_master() != nullptr ||
                        store_.flat_weights(bucket) != nullptr;
  // At stage 3 the caller's thread may be at a Gather() meanwhile.
  void* tensor = in_place ? nullptr : store_.weights(run.param);
  const bool direct = !in_place && !param.transposed;
  if (!in_place && param.transposed) {
    PackRows(kernels, param, rows, tensor, place, types, stream);
  }
  void* weights = direct ? ElementAt(tensor, run.first_row * param.row_elements,
                                     param.dtype)
                         : place;
  const float* gradient = buckets_[bucket]->shard() + run.wire_offset;
  if (state.format.plain()) {
    float* second_moment = param.element_state
                               ? static_cast<float*>(shard.second_moment(state))
                               : shard.block_scalars();
    method_->Update(
        kernels,
        RunUpdate{param, run, state.spans, static_cast<float*>(weights),
                  gradient, static_cast<float*>(shard.momentum(state)),
                  second_moment, shard.block_sums(), !TakesAllSums(), scalars},
        stream);
  } else {
    tiles_.Run(*method_, kernels, state, shard, weights, gradient, scalars,
               stream);
  }
  if (direct && place != nullptr) {
    PackRows(kernels, param, rows, tensor, place, types, stream);
  }
}

void StepPipeline::SubmitUpdate(int bucket, void* segment,
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

// Masters of weights that were set from outside. A weight that is a number of
// its dtype leaves no remainder.
void StepPipeline::TakeMaster(int bucket, const RunState& state) {
  const Run& run = *state.run;
  const PlannedParam& param = *state.param;
  BucketShard& shard = shards_[bucket];
  const MasterFormat format = state.format.master;
  void* master = shard.master(state);
  CopyTypes types = {param.dtype, DType::kFloat32};
  if (shard.wire_master() != nullptr) {
    master = shard.wire_master() + run.offset;
  } else if (format != MasterFormat::kFloat32) {
    if (format == MasterFormat::kNone) return;
    device_.Zero(master, run.rows * param.row_elements * MasterBytes(format),
                 device_.compute());
    return;
  }
  device_.Submit(device_.compute(), [this, bucket, &run, &param, master,
                                     types](Stream on) {
    if (options_.stage != 3) {
      PackRows(device_.kernels(), param, {run.first_row, run.rows},
               store_.weights(run.param), master, types, on);
      return absl::OkStatus();
    }
    CopyContiguous(device_.kernels(),
                   ElementAt(weights_.segment(bucket), run.offset, param.dtype),
                   master, run.rows * param.row_elements, types, on);
    return absl::OkStatus();
  });
}

void StepPipeline::TakeMasters() {
  for (size_t b = 0; b < shards_.size(); ++b) {
    for (const RunState& state : shards_[b].runs()) {
      if (has_master_[state.run->param]) continue;
      TakeMaster(static_cast<int>(b), state);
    }
  }
}

bool StepPipeline::AnyMoved(int bucket, const std::vector<char>& moved) const {
  const std::vector<int>& params = plan_.buckets[bucket].params;
  return std::any_of(params.begin(), params.end(),
                     [&](int p) { return moved[p] != 0; });
}

// With a new wire master the weights are not rounded yet: they travel, absent
// or not. Others travel if there was a gradient, since of those that are absent
// nothing is packed.
void StepPipeline::SetMoved() {
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const int bucket = plan_.params[p].bucket;
    const bool fresh =
        bucket >= 0 && has_master_[p] == 0 && KeepsWireMaster(bucket);
    moved_[p] = fresh ? char{1} : present_[p];
  }
}

absl::Status StepPipeline::UpdateBuckets(const StepOptions& options) {
  SetMoved();
  int travelling = -1;
  for (size_t b = 0; b < buckets_.size(); ++b) {
    const int bucket = static_cast<int>(b);
    // Presence is global, so all ranks leave out the same buckets.
    if (!AnyMoved(bucket, moved_)) continue;
    ZEROMINI_ASSIGN_OR_RETURN(void* segment, gather_.Open(bucket));
    if (KeepsWireMaster(bucket)) segment = shards_[b].wire_master();
    SubmitUpdate(bucket, segment, options);
    buckets_[b]->SetBusy(device_.Record(device_.compute()));
    ZEROMINI_RETURN_IF_ERROR(gather_.Send(bucket, segment));
    // One bucket late, so that this bucket's kernel does not wait for the
    // weights of the one before.
    if (travelling >= 0) {
      ZEROMINI_RETURN_IF_ERROR(gather_.Unpack(travelling, moved_));
    }
    travelling = bucket;
  }
  if (travelling >= 0) {
    ZEROMINI_RETURN_IF_ERROR(gather_.Unpack(travelling, moved_));
  }
  return absl::OkStatus();
}

void StepPipeline::UpdateShards(const StepOptions& options) {
  for (size_t b = 0; b < buckets_.size(); ++b) {
    const int bucket = static_cast<int>(b);
    if (!AnyMoved(bucket, present_)) continue;
    SubmitUpdate(bucket, weights_.segment(bucket), options);
    Event updated = device_.Record(device_.compute());
    buckets_[b]->SetBusy(updated);
    weights_.SetUpdated(bucket, std::move(updated));
  }
}

absl::Status StepPipeline::UpdateAll(const StepOptions& options) {
  for (size_t s = 0; s < plan_.split_blocks.size(); ++s) {
    const int split = static_cast<int>(s);
    const int param = plan_.split_blocks[s].param;
    shards_[plan_.params[param].bucket].SetSplitSum(
        split, scalars_.SplitSum(SplitSlot(split)));
  }
  TakeMasters();
  if (options_.stage == 3) {
    UpdateShards(options);
  } else {
    ZEROMINI_RETURN_IF_ERROR(UpdateBuckets(options));
  }
  std::fill(has_master_.begin(), has_master_.end(), char{1});
  for (size_t p = 0; p < steps_.size(); ++p) {
    if (present_[p]) ++steps_[p];
  }
  return options.wait ? AwaitWeights() : absl::OkStatus();
}

absl::Status StepPipeline::WaitParam(int param, Stream stream) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  const PlannedParam& given = plan_.params[param];
  const int owner = given.tied_to >= 0 ? given.tied_to : param;
  const PlannedParam& owning = plan_.params[owner];
  const int bucket = owning.bucket;
  if (bucket < 0) return absl::OkStatus();
  Event done;
  if (options_.stage == 3) {
    std::lock_guard<std::mutex> lock(fire_mutex_);
    if (store_.weights(owner) == nullptr) {
      const std::string tie = owner == param
                                  ? ""
                                  : absl::StrCat(", that of '", owning.name,
                                                 "', which it is tied to");
      return absl::FailedPreconditionError(absl::StrCat(
          "parameter '", given.name, "' is not gathered (layer set ",
          owning.layer_set, tie, ")"));
    }
    done = weights_.gathered(
        plan_.params[plan_.buckets[bucket].params.front()].layer_set);
  } else {
    done = gather_.done(bucket);
  }
  if (stream.native != nullptr) return device_.WaitFor(stream, done);
  absl::Status passed = Await(done);
  return passed.ok() ? passed : BreakOrdered(std::move(passed));
}

absl::Status StepPipeline::WaitAll() {
  ZEROMINI_RETURN_IF_ERROR(broken());
  absl::Status passed = AwaitWeights();
  return passed.ok() ? passed : BreakOrdered(std::move(passed));
}

// Each wait has all the time: a process may be suspended in the one before.
absl::Status StepPipeline::Await(const Event& event) {
  return device_.Synchronize(event, absl::Now() + StreamPatience(group_));
}

absl::Status StepPipeline::AwaitWeights() {
  // Also what reads weights without moving any: masters taken from them.
  std::vector<Event> pending = {device_.Record(device_.compute())};
  if (options_.stage == 3) {
    std::lock_guard<std::mutex> lock(fire_mutex_);
    weights_.AddGathers(&pending);
  } else {
    for (size_t b = 0; b < buckets_.size(); ++b) {
      pending.push_back(gather_.done(static_cast<int>(b)));
    }
  }
  for (const Event& event : pending) ZEROMINI_RETURN_IF_ERROR(Await(event));
  return absl::OkStatus();
}

absl::Status StepPipeline::BreakOrdered(absl::Status why) {
  std::lock_guard<std::mutex> lock(fire_mutex_);
  return Break(Explain(std::move(why)));
}

absl::Status StepPipeline::Drain() {
  absl::Status group = Await(device_.Record(group_.stream()));
  absl::Status compute = Await(device_.Record(device_.compute()));
  return group.ok() ? compute : group;
}

absl::Status StepPipeline::End() {
  absl::Status drained = Drain();
  if (drained.ok()) return drained;
  if (absl::IsDeadlineExceeded(drained)) {
    drained = absl::DeadlineExceededError(absl::StrCat(
        "the optimizer ended before the streams that its exchanges wait for: ",
        drained.message()));
  }
  // Drops what is queued; what runs ends by a deadline of its own.
  absl::Status why = BreakOrdered(std::move(drained));
  Drain().IgnoreError();
  return why;
}

}  // namespace zeromini
