#include "runtime/state/state_gather.h"

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/device/row_packing.h"
#include "runtime/group/agreement.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Second moments of one run: elements, or one per block at least partly here.
struct MomentRange {
  int64_t first = 0;
  int64_t count = 0;
};

std::vector<MomentRange> MomentsOf(const PlannedParam& param, const Run& run) {
  std::vector<MomentRange> ranges;
  if (!param.keeps_second_moment()) return ranges;
  if (param.element_state) {
    ranges.push_back({run.first_row * param.state_row_elements,
                      run.rows * param.state_row_elements});
    return ranges;
  }
  for (const BlockSpan& span : SpansOf(param, run)) {
    ranges.push_back({span.first_block, span.blocks});
  }
  return ranges;
}

// Elements that `rank` has of `param`: momentum, then second moments.
struct Share {
  int64_t momentum = 0;
  int64_t second_moment = 0;
};

Share ShareOf(const Plan& plan, int param, int rank) {
  const PlannedParam& planned = plan.params[param];
  Share share;
  for (const Run& run : plan.buckets[planned.bucket].runs[rank]) {
    if (run.param != param) continue;
    share.momentum += run.rows * planned.state_row_elements;
    for (const MomentRange& range : MomentsOf(planned, run)) {
      share.second_moment += range.count;
    }
  }
  return share;
}

void PackShare(const KernelTable& kernels, int param, BucketShard& shard,
               float* out) {
  for (const RunState& state : shard.runs()) {
    if (state.run->param != param) continue;
    kernels.unpack_state(
        shard.MomentumCodec(state, {0, state.run->rows}, /*step=*/0, out),
        Stream{});
    out += state.state_elements();
  }
  for (const RunState& state : shard.runs()) {
    if (state.run->param != param) continue;
    for (const SpanState& span : state.spans) {
      out = std::copy_n(shard.block_scalars() + span.second_moment_offset,
                        span.span.blocks, out);
    }
    const PlannedParam& planned = *state.param;
    if (!planned.element_state || !planned.keeps_second_moment()) continue;
    kernels.unpack_state(
        shard.SecondMomentCodec(state, {0, state.run->rows}, /*step=*/0, out),
        Stream{});
    out += state.state_elements();
  }
}

void UnpackShare(const Plan& plan, int param, int rank, const float* in,
                 const KernelTable& kernels, Optimizer::ParamState* state) {
  const PlannedParam& planned = plan.params[param];
  const std::vector<Run>& runs = plan.buckets[planned.bucket].runs[rank];
  const bool whole = planned.state_row_elements == planned.row_elements;
  for (const Run& run : runs) {
    if (run.param != param) continue;
    const int64_t elements = run.rows * planned.state_row_elements;
    if (whole) {
      UnpackRows(kernels, planned, {run.first_row, run.rows}, in,
                 state->momentum.data(), DType::kFloat32, Stream{});
    } else {
      std::copy_n(
          in, elements,
          state->momentum.data() + run.first_row * planned.state_row_elements);
    }
    in += elements;
  }
  for (const Run& run : runs) {
    if (run.param != param) continue;
    const bool elements =
        planned.element_state && planned.keeps_second_moment();
    if (elements && whole) {
      UnpackRows(kernels, planned, {run.first_row, run.rows}, in,
                 state->second_moment.data(), DType::kFloat32, Stream{});
      in += run.rows * planned.row_elements;
      continue;
    }
    for (const MomentRange& range : MomentsOf(planned, run)) {
      std::copy_n(in, range.count, state->second_moment.data() + range.first);
      in += range.count;
    }
  }
}

}  // namespace

absl::StatusOr<StateGather> StateGather::Create(const Plan& plan, int param,
                                                Communicator& group,
                                                Device& device) {
  const PlannedParam& planned = plan.params[param];
  StateGather gather(plan, param, group, device);
  for (int rank = 0; rank < group.size(); ++rank) {
    const Share share = ShareOf(plan, param, rank);
    gather.segment_ =
        std::max(gather.segment_, share.momentum + share.second_moment);
    gather.useful_ += share.momentum + share.second_moment;
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      gather.all_,
      device.Allocate(gather.segment_ * group.size() * int64_t{sizeof(float)},
                      MemoryKind::kBuckets));
  try {
    gather.state_.momentum.resize(planned.rows * planned.state_row_elements);
    gather.state_.second_moment.resize(planned.blocks_total);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no room for the state of '", planned.name, "'"));
  }
  return gather;
}

absl::StatusOr<Optimizer::ParamState> StateGather::Run(BucketShard& shard) {
  float* own = Floats(all_) + segment_ * group_.rank();
  PackShare(device_.kernels(), param_, shard, own);
  ZEROMINI_RETURN_IF_ERROR(
      group_.AllGather(own, all_.get(), segment_, DType::kFloat32,
                       Exchange{Purpose::kState, plan_.params[param_].bucket,
                                segment_ * group_.size() - useful_,
                                DType::kFloat32, plan_.hash}));
  ZEROMINI_RETURN_IF_ERROR(FinishExchange(group_, device_));
  for (int rank = 0; rank < group_.size(); ++rank) {
    UnpackShare(plan_, param_, rank, Floats(all_) + segment_ * rank,
                device_.kernels(), &state_);
  }
  return std::move(state_);
}

}  // namespace zeromini
