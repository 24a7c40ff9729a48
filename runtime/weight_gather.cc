#include "runtime/weight_gather.h"

#include <algorithm>
#include <utility>

#include "runtime/row_packing.h"
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
  return !in_place && (plan.options.ranks > 1 || wire != DType::kFloat32 ||
                       HasTransposed(plan, bucket));
}

}  // namespace

WeightGather::WeightGather(const Plan& plan, const ParamStore& store,
                           Device& device, WirePool& pool, Communicator& group,
                           DType wire)
    : plan_(plan),
      store_(store),
      device_(device),
      pool_(pool),
      group_(group),
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
    most = std::max(most, plan.buckets[b].segment);
  }
  return most * plan.options.ranks * int64_t{sizeof(float)};
}

bool WeightGather::Packs(int bucket) const {
  return NeedsBuffer(plan_, bucket, store_.flat_weights(bucket) != nullptr,
                     wire_);
}

absl::StatusOr<float*> WeightGather::Open(int bucket) {
  const int64_t own = plan_.buckets[bucket].segment * group_.rank();
  if (store_.flat_weights(bucket) != nullptr) {
    return store_.flat_weights(bucket) + own;
  }
  if (!Packs(bucket)) return nullptr;
  ZEROMINI_ASSIGN_OR_RETURN(WirePool::Lease lease, pool_.Take());
  ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(device_.compute(), lease.ready));
  buffers_[bucket] = std::move(lease.buffer);
  return Floats(buffers_[bucket]) + own;
}

absl::Status WeightGather::Send(int bucket, const float* segment) {
  gathered_[bucket] = device_.Record(device_.compute());
  if (group_.size() == 1 && !rounds()) return absl::OkStatus();
  float* all = store_.flat_weights(bucket) != nullptr
                   ? store_.flat_weights(bucket)
                   : Floats(buffers_[bucket]);
  const BucketPlan& layout = plan_.buckets[bucket];
  const Exchange exchange = {Purpose::kWeights, bucket,
                             layout.segment * group_.size() - layout.elements,
                             wire_, plan_.hash};
  ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(group_.stream(), gathered_[bucket]));
  ZEROMINI_RETURN_IF_ERROR(group_.AllGather(segment, all, layout.segment,
                                            DType::kFloat32, exchange));
  if (group_.stream().native != nullptr) {
    gathered_[bucket] = device_.Record(group_.stream());
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
  float* all = Floats(buffers_[bucket]);
  device_.Submit(compute, [this, bucket, all, &present](Stream on) {
    const BucketPlan& layout = plan_.buckets[bucket];
    for (int rank = 0; rank < group_.size(); ++rank) {
      for (const Run& run : layout.runs[rank]) {
        const PlannedParam& param = plan_.params[run.param];
        // Own rows were updated where they live, unless they are columns or
        // the update was a master's.
        const bool here =
            rank == group_.rank() && !param.transposed && !rounds();
        if (here || !present[run.param]) continue;
        UnpackRows(device_.kernels(), param, {run.first_row, run.rows},
                   all + layout.segment * rank + run.offset,
                   store_.weights(run.param), on);
      }
    }
    return absl::OkStatus();
  });
  done_[bucket] = device_.Record(compute);
  pool_.Give(std::move(buffers_[bucket]), done_[bucket]);
  buffers_[bucket] = nullptr;
  return absl::OkStatus();
}

}  // namespace zeromini
