#include "runtime/state/sharded_weights.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/group/agreement.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

ShardedWeights::ShardedWeights(const HomeContext& context, ParamStore store)
    : WeightHome(context, std::move(store)),
      pool_(context.device,
            {MemoryKind::kGathered, context.options.gather_budget_bytes,
             /*target=*/0, /*overlaps=*/true,
             StreamPatience(context.groups.world())}),
      updated_(context.plan.buckets.size()) {}

absl::StatusOr<std::unique_ptr<ShardedWeights>> ShardedWeights::Create(
    const HomeContext& context, ParamStore store) {
  auto weights = std::unique_ptr<ShardedWeights>(
      new ShardedWeights(context, std::move(store)));
  ZEROMINI_RETURN_IF_ERROR(weights->Allocate());
  return weights;
}

int64_t ShardedWeights::FullBytes(int bucket) const {
  return layout(bucket).segment * context_.plan.options.ranks *
         SizeOf(layout(bucket).dtype);
}

absl::Status ShardedWeights::Allocate() {
  for (size_t b = 0; b < context_.plan.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    const BucketPlan& plan = layout(bucket);
    ZEROMINI_ASSIGN_OR_RETURN(
        Buffer shard,
        context_.device.Allocate(plan.segment * SizeOf(plan.dtype),
                                 MemoryKind::kWeights));
    shards_.push_back(std::move(shard));
    // The planner never mixes layer sets in a bucket.
    LayerSet& set = by_id_[context_.plan.params[plan.params.front()].layer_set];
    set.buckets.push_back(bucket);
    set.bytes += FullBytes(bucket);
    if (plan.in_place) continue;
    for (int param : plan.params) {
      set.bytes += TensorBytes(context_.plan.params[param]);
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<WeightHome::Place> ShardedWeights::Open(int bucket) {
  return Place{segment(bucket), /*in_segment=*/true};
}

absl::Status ShardedWeights::Send(int bucket, std::shared_ptr<const Moves>) {
  updated_[bucket] = context_.device.Record(context_.device.compute());
  return absl::OkStatus();
}

absl::Status ShardedWeights::CopyRun(int bucket, const Run& run, void* to,
                                     CopyTypes types, Stream on) const {
  const PlannedParam& param = context_.plan.params[run.param];
  return CopyContiguous(context_.device.kernels(),
                        ElementAt(segment(bucket), run.offset, param.dtype), to,
                        run.rows * param.row_elements, types, on);
}

absl::Status ShardedWeights::Adopt(int param, const void* tensor) {
  const PlannedParam& planned = context_.plan.params[param];
  const int bucket = planned.bucket;
  if (bucket < 0) return absl::OkStatus();
  const DType dtype = layout(bucket).dtype;
  for (const Run& run : layout(bucket).runs[ranks(bucket).rank()]) {
    if (run.param != param) continue;
    void* to = ElementAt(segment(bucket), run.offset, dtype);
    ZEROMINI_RETURN_IF_ERROR(context_.device.Launch(Stream{}, [&,
                                                               to](Stream on) {
      return PackRows(
          context_.device.kernels(),
          {planned, {run.first_row, run.rows}, tensor, to, {dtype, dtype}}, on);
    }));
  }
  return absl::OkStatus();
}

absl::StatusOr<ShardedWeights::LayerSet*> ShardedWeights::Find(int layer_set) {
  const auto found = by_id_.find(layer_set);
  if (found != by_id_.end()) return &found->second;
  if (layer_set == kLayerSetOfLayer) {
    return absl::InvalidArgumentError(absl::StrCat(
        "layer set ", layer_set, " is kLayerSetOfLayer, which only a ",
        "ParamSpec::layer_set can be: give the layer's number, or kNoLayerSet "
        "(",
        kNoLayerSet, ") for what is in no layer"));
  }
  return absl::InvalidArgumentError(
      absl::StrCat("no parameter is in layer set ", layer_set,
                   " that is gathered: frozen ones are whole, and tied ones "
                   "come with what they are tied to"));
}

absl::Status ShardedWeights::CheckGather(int layer_set) {
  ZEROMINI_ASSIGN_OR_RETURN(const LayerSet* const wanted, Find(layer_set));
  return wanted->gathered ? absl::OkStatus() : pool_.CheckRoom(wanted->bytes);
}

absl::Status ShardedWeights::Gather(int layer_set, GatherPass pass) {
  ZEROMINI_ASSIGN_OR_RETURN(LayerSet* const wanted, Find(layer_set));
  if (!wanted->gathered) ZEROMINI_RETURN_IF_ERROR(Start(*wanted));
  return Prefetch(layer_set, pass);
}

absl::Status ShardedWeights::Prefetch(int layer_set, GatherPass pass) {
  // What is outside of the layers has no next.
  if (pass == GatherPass::kNone || layer_set < 0) return absl::OkStatus();
  auto next = by_id_.find(layer_set);
  for (int i = 0; i < context_.options.prefetch; ++i) {
    if (pass == GatherPass::kForward) {
      if (++next == by_id_.end()) break;
    } else if (next == by_id_.begin() || (--next)->first < 0) {
      break;
    }
    if (next->second.gathered) continue;
    if (!pool_.CheckRoom(next->second.bytes).ok()) break;
    ZEROMINI_RETURN_IF_ERROR(Start(next->second));
  }
  return absl::OkStatus();
}

absl::Status ShardedWeights::Start(LayerSet& set) {
  Device& device = context_.device;
  set.gathered = true;
  bool unpacks = false;
  Event landed;
  for (int bucket : set.buckets) {
    unpacks = unpacks || !layout(bucket).in_place;
    ZEROMINI_ASSIGN_OR_RETURN(landed, GatherBucket(bucket, set));
  }
  set.done = landed;
  if (!unpacks) return absl::OkStatus();
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(device.compute(), landed));
  set.done = device.Record(device.compute());
  return absl::OkStatus();
}

// What is leased belongs to the set before anything is enqueued that writes to
// it: if a later allocation fails the group breaks, but what has left still
// lands.
absl::StatusOr<Event> ShardedWeights::GatherBucket(int bucket, LayerSet& set) {
  const BucketPlan& plan = layout(bucket);
  Device& device = context_.device;
  Communicator& group = ranks(bucket);
  const size_t at = set.leases.size();
  ZEROMINI_ASSIGN_OR_RETURN(LeasePool::Lease lease,
                            pool_.Take(FullBytes(bucket)));
  void* const all = lease.buffer.get();
  set.leases.push_back(std::move(lease));
  ZEROMINI_RETURN_IF_ERROR(pool_.WaitFor(group.stream(), set.leases[at]));
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(group.stream(), updated_[bucket]));
  const bool rounds = plan.dtype == DType::kFloat32;
  ZEROMINI_RETURN_IF_ERROR(group.AllGather(
      segment(bucket), all, plan.segment, plan.dtype,
      Exchange{Purpose::kWeights, bucket,
               plan.segment * group.size() - plan.elements,
               rounds ? context_.options.weight_wire : DType::kFloat32,
               context_.plan.hash}));
  Event landed = device.Record(group.stream());
  if (!plan.in_place) {
    ZEROMINI_RETURN_IF_ERROR(device.WaitFor(device.compute(), landed));
    ZEROMINI_RETURN_IF_ERROR(UnpackBucket(bucket, at, set));
    return landed;
  }
  for (size_t i = 0; i < plan.params.size(); ++i) {
    store_.SetWeights(plan.params[i],
                      ElementAt(all, plan.param_offset[i], plan.dtype));
  }
  return landed;
}

absl::Status ShardedWeights::UnpackBucket(int bucket, size_t wire,
                                          LayerSet& set) {
  Device& device = context_.device;
  const Stream compute = device.compute();
  // A released set's tensors are gone from the store before the stream gets
  // here.
  std::vector<void*> tensors(context_.plan.params.size(), nullptr);
  for (int param : layout(bucket).params) {
    ZEROMINI_ASSIGN_OR_RETURN(
        LeasePool::Lease tensor,
        pool_.Take(TensorBytes(context_.plan.params[param])));
    tensors[param] = tensor.buffer.get();
    set.leases.push_back(std::move(tensor));
    ZEROMINI_RETURN_IF_ERROR(pool_.WaitFor(compute, set.leases.back()));
    store_.SetWeights(param, tensors[param]);
  }
  ZEROMINI_RETURN_IF_ERROR(
      device.Launch(compute, [this, bucket, all = set.leases[wire].buffer.get(),
                              tensors = std::move(tensors)](Stream on) {
        return UnpackRuns(bucket, all, tensors, on);
      }));
  set.leases[wire].ready = {device.Record(compute), nullptr};
  pool_.Give(std::move(set.leases[wire]));
  set.leases.erase(set.leases.begin() + static_cast<std::ptrdiff_t>(wire));
  return absl::OkStatus();
}

absl::Status ShardedWeights::UnpackRuns(int bucket, const void* all,
                                        const std::vector<void*>& tensors,
                                        Stream on) const {
  const BucketPlan& plan = layout(bucket);
  for (size_t rank = 0; rank < plan.runs.size(); ++rank) {
    for (const Run& run : plan.runs[rank]) {
      const int64_t at = plan.segment * static_cast<int64_t>(rank) + run.offset;
      ZEROMINI_RETURN_IF_ERROR(UnpackRows(context_.device.kernels(),
                                          {context_.plan.params[run.param],
                                           {run.first_row, run.rows},
                                           ElementAt(all, at, plan.dtype),
                                           tensors[run.param],
                                           {plan.dtype, plan.dtype}},
                                          on));
    }
  }
  return absl::OkStatus();
}

absl::Status ShardedWeights::Release(int layer_set, Stream reader) {
  ZEROMINI_ASSIGN_OR_RETURN(LayerSet* const released, Find(layer_set));
  if (!released->gathered) return absl::OkStatus();
  for (int bucket : released->buckets) {
    for (int param : layout(bucket).params) store_.SetWeights(param, nullptr);
  }
  Device& device = context_.device;
  // They live until the reader is done, whatever becomes of this object.
  for (const LeasePool::Lease& lease : released->leases) {
    device.Keep(lease.buffer, reader);
  }
  const Event after = device.Record(reader);
  for (LeasePool::Lease& lease : released->leases) {
    // Perhaps nobody has waited for the gather.
    lease.ready = {released->done, after};
    pool_.Give(std::move(lease));
  }
  released->leases.clear();
  released->gathered = false;
  released->done = nullptr;
  return absl::OkStatus();
}

absl::Status ShardedWeights::ReleaseAll() {
  for (const auto& entry : by_id_) {
    ZEROMINI_RETURN_IF_ERROR(Release(entry.first, Stream{}));
  }
  return absl::OkStatus();
}

absl::StatusOr<Event> ShardedWeights::Ready(int param, int asked_as) const {
  const PlannedParam& planned = context_.plan.params[param];
  if (tensor(param) == nullptr) {
    const std::string tie = param == asked_as
                                ? ""
                                : absl::StrCat(", that of '", planned.name,
                                               "', which it is tied to");
    return absl::FailedPreconditionError(absl::StrCat(
        "parameter '", context_.plan.params[asked_as].name,
        "' is not gathered (layer set ", planned.layer_set, tie, ")"));
  }
  const int first = layout(planned.bucket).params.front();
  return by_id_.at(context_.plan.params[first].layer_set).done;
}

void ShardedWeights::AddPending(std::vector<Event>* events) const {
  for (const auto& entry : by_id_) {
    if (entry.second.gathered) events->push_back(entry.second.done);
  }
}

}  // namespace zeromini
