#include "runtime/step/weight_gather.h"

#include <algorithm>
#include <utility>

#include "runtime/device/row_packing.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

bool HasTransposed(const Plan& plan, int bucket) {
  const std::vector<int>& params = plan.buckets[bucket].params;
  return std::any_of(params.begin(), params.end(),
                     [&](int p) { return plan.params[p].transposed; });
}

bool NeedsBuffer(const Plan& plan, int bucket, bool flat, DType wire) {
  const bool in_place = flat && plan.buckets[bucket].in_place;
  return !in_place &&
         (plan.options.ranks > 1 || RoundsOnWire(plan, bucket, wire) ||
          HasTransposed(plan, bucket));
}

}  // namespace

WeightGather::WeightGather(const Plan& plan, const ParamStore& store,
                           Device& device, WirePool& pool,
                           const RankGroups& groups, DType wire)
    : plan_(plan),
      store_(store),
      device_(device),
      pool_(pool),
      groups_(groups),
      wire_(wire),
      buffers_(plan.buckets.size()),
      gathered_(plan.buckets.size()),
      done_(plan.buckets.size()) {}

int64_t WeightGather::BufferBytes(const Plan& plan,
                                  const OptimizerOptions& options) {
  const bool flat = options.memory == MemoryForm::kFlat;
  int64_t most = 0;
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    if (!NeedsBuffer(plan, static_cast<int>(b), flat, options.weight_wire)) {
      continue;
    }
    most =
        std::max(most, plan.buckets[b].segment * SizeOf(plan.buckets[b].dtype));
  }
  return most * plan.options.ranks;
}

bool WeightGather::Packs(int bucket) const {
  return NeedsBuffer(plan_, bucket, store_.flat_weights(bucket) != nullptr,
                     wire_);
}

absl::StatusOr<void*> WeightGather::Open(int bucket) {
  const BucketPlan& layout = plan_.buckets[bucket];
  const int64_t own = layout.segment * GroupOf(bucket).rank();
  if (store_.flat_weights(bucket) != nullptr) {
    return ElementAt(store_.flat_weights(bucket), own, layout.dtype);
  }
  if (!Packs(bucket)) return nullptr;
  ZEROMINI_ASSIGN_OR_RETURN(WirePool::Lease lease, pool_.Take());
  ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(device_.compute(), lease.ready));
  buffers_[bucket] = std::move(lease.buffer);
  return ElementAt(buffers_[bucket].get(), own, layout.dtype);
}

absl::Status WeightGather::Send(int bucket, const void* segment) {
  gathered_[bucket] = device_.Record(device_.compute());
  Communicator& group = GroupOf(bucket);
  if (group.size() == 1 && !Rounds(bucket)) return absl::OkStatus();
  void* all = store_.flat_weights(bucket) != nullptr
                  ? store_.flat_weights(bucket)
                  : buffers_[bucket].get();
  const BucketPlan& layout = plan_.buckets[bucket];
  const Exchange exchange = {Purpose::kWeights, bucket,
                             layout.segment * group.size() - layout.elements,
                             Rounds(bucket) ? wire_ : DType::kFloat32,
                             plan_.hash};
  ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(group.stream(), gathered_[bucket]));
  ZEROMINI_RETURN_IF_ERROR(
      group.AllGather(segment, all, layout.segment, layout.dtype, exchange));
  if (group.stream().native != nullptr) {
    gathered_[bucket] = device_.Record(group.stream());
  }
  return absl::OkStatus();
}

absl::Status WeightGather::Unpack(int bucket,
                                  const std::vector<char>& present) {
  if (buffers_[bucket] == nullptr) {
    done_[bucket] = gathered_[bucket];
    return absl::OkStatus();
  }
  const Stream compute = device_.compute();
  ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(compute, gathered_[bucket]));
  const void* all = buffers_[bucket].get();
  device_.Submit(compute, [this, bucket, all, &present](Stream on) {
    const BucketPlan& layout = plan_.buckets[bucket];
    const int ranks = GroupOf(bucket).size();
    for (int rank = 0; rank < ranks; ++rank) {
      for (const Run& run : layout.runs[rank]) {
        const PlannedParam& param = plan_.params[run.param];
        // Own rows were updated where they live, unless they are columns or
        // the update was a master's.
        const bool here = rank == GroupOf(bucket).rank() && !param.transposed &&
                          !Rounds(bucket);
        if (here || !present[run.param]) continue;
        UnpackRows(
            device_.kernels(), param, {run.first_row, run.rows},
            ElementAt(all, layout.segment * rank + run.offset, layout.dtype),
            store_.weights(run.param), layout.dtype, on);
      }
    }
    return absl::OkStatus();
  });
  done_[bucket] = device_.Record(compute);
  // Step() runs on a thread that may exchange: where exchanges do not overlap
  // this one has ended.
  pool_.Give(std::move(buffers_[bucket]), done_[bucket], nullptr);
  buffers_[bucket] = nullptr;
  return absl::OkStatus();
}

}  // namespace zeromini
