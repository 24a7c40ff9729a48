#include "runtime/state/state_gather.h"

#include <algorithm>
#include <new>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/device/row_packing.h"
#include "shard/stretch.h"
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
    ranges.push_back({run.first_row * param.row_elements, run.state_elements});
    return ranges;
  }
  for (const BlockSpan& span : SpansOf(param, run)) {
    ranges.push_back({span.first_block, span.scalars()});
  }
  return ranges;
}

// Averages of columns, which come after those of blocks: of each matrix at
// least partly in the run.
MomentRange ColumnsOf(const PlannedParam& param, const Run& run) {
  const IndexRange here = MatricesIn(param.blocks, run.first_row, run.rows);
  const IndexRange all = MatricesIn(param.blocks, 0, param.rows);
  return {param.blocks_total - (all.end - here.begin) * param.row_elements,
          here.count() * param.row_elements};
}

// In the order of ShardState::Views().
std::vector<const Run*> RunsOf(const Plan& plan, int param, int rank) {
  std::vector<const Run*> runs;
  for (int bucket : plan.params[param].buckets) {
    for (const Run& run : plan.buckets[bucket].runs[rank]) {
      if (run.param == param) runs.push_back(&run);
    }
  }
  return runs;
}

// Elements that `rank` has of `param`: momentum, then second moments.
struct Share {
  int64_t momentum = 0;
  int64_t second_moment = 0;
};

Share ShareOf(const Plan& plan, int param, int rank) {
  const PlannedParam& planned = plan.params[param];
  Share share;
  for (const Run* run : RunsOf(plan, param, rank)) {
    share.momentum += run->state_elements;
    for (const MomentRange& range : MomentsOf(planned, *run)) {
      share.second_moment += range.count;
    }
    share.second_moment += ColumnsOf(planned, *run).count;
  }
  return share;
}

// On the host: what ShardState::Unpack() of one run has written.
const float* UnpackRun(const PlannedParam& planned, const Run& run,
                       const float* in, Optimizer::ParamState* state) {
  const int64_t elements = run.state_elements;
  const bool by_rows = elements == run.rows * planned.row_elements;
  const auto take = [&](float* to) {
    if (by_rows) {
      UnpackRows(CpuKernels(), {planned, {run.first_row, run.rows}, in, to, {}},
                 Stream{})
          .IgnoreError();  // The host's own never fail.
    } else {
      // A projection, in the order of its units.
      std::copy_n(in, elements, to + StateElements(planned, 0, run.first_row));
    }
    in += elements;
  };
  take(state->momentum.data());
  if (!planned.keeps_second_moment()) return in;
  if (planned.element_state) {
    take(state->second_moment.data());
    return in;
  }
  for (const MomentRange& range : MomentsOf(planned, run)) {
    std::copy_n(in, range.count, state->second_moment.data() + range.first);
    in += range.count;
  }
  // Other ranks with rows of the matrix have the same.
  const MomentRange columns = ColumnsOf(planned, run);
  std::copy_n(in, columns.count, state->second_moment.data() + columns.first);
  return in + columns.count;
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
  ZEROMINI_ASSIGN_OR_RETURN(gather.here_,
                            device.AllocateHost(gather.segment_ * group.size() *
                                                int64_t{sizeof(float)}));
  try {
    gather.state_.momentum.resize(StateElements(planned, 0, planned.rows));
    gather.state_.second_moment.resize(planned.blocks_total);
  } catch (const std::bad_alloc&) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no room for the state of '", planned.name, "'"));
  }
  return gather;
}

absl::StatusOr<Optimizer::ParamState> StateGather::Run(
    const ShardState& state, absl::Duration patience) {
  const Stream compute = device_.compute();
  float* const own = Floats(all_) + segment_ * group_.rank();
  float* out = own;
  for (const StateView& view : state.Views(param_)) {
    ZEROMINI_RETURN_IF_ERROR(state.Unpack(view, &out));
  }
  ZEROMINI_RETURN_IF_ERROR(
      device_.WaitFor(group_.stream(), device_.Record(compute)));
  ZEROMINI_RETURN_IF_ERROR(group_.AllGather(
      own, all_.get(), segment_, DType::kFloat32,
      Exchange{Purpose::kState, plan_.params[param_].buckets[0],
               segment_ * group_.size() - useful_, DType::kFloat32,
               plan_.hash}));
  ZEROMINI_RETURN_IF_ERROR(
      device_.WaitFor(compute, device_.Record(group_.stream())));
  ZEROMINI_RETURN_IF_ERROR(
      device_.Copy(all_.get(), here_.get(),
                   segment_ * group_.size() * int64_t{sizeof(float)}, compute));
  device_.Keep(all_, compute);
  device_.Keep(here_, compute);
  ZEROMINI_RETURN_IF_ERROR(
      device_.Synchronize(device_.Record(compute), absl::Now() + patience));
  for (int rank = 0; rank < group_.size(); ++rank) {
    const float* in = Floats(here_) + segment_ * rank;
    for (const zeromini::Run* run : RunsOf(plan_, param_, rank)) {
      in = UnpackRun(plan_.params[param_], *run, in, &state_);
    }
  }
  return std::move(state_);
}

}  // namespace zeromini
