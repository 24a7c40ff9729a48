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
             /*classes=*/{}, /*overlaps=*/true,
             StreamPatience(context.groups.world())}),
      updated_(context.plan.buckets.size()),
      gathered_(context.plan.regions.size()) {}

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

int64_t ShardedWeights::RegionBytes(int region) const {
  const RegionPlan& plan = context_.plan.regions[region];
  return plan.elements * SizeOf(plan.dtype);
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
    by_id_[plan.layer_set].buckets.push_back(bucket);
  }
  for (size_t r = 0; r < context_.plan.regions.size(); ++r) {
    by_id_[context_.plan.regions[r].layer_set].regions.push_back(
        static_cast<int>(r));
  }
  for (auto& [id, set] : by_id_) set.bytes = GatherBytes(context_.plan, id);
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
  const CopyTypes types = {planned.dtype, planned.dtype};
  for (int bucket : planned.buckets) {
    for (const Run& run : layout(bucket).runs[ranks(bucket).rank()]) {
      if (run.param != param) continue;
      const RowCopy copy = {planned,
                            {run.first_row, run.rows},
                            tensor,
                            ElementAt(segment(bucket), run.offset, types.in),
                            types};
      ZEROMINI_RETURN_IF_ERROR(
          context_.device.Launch(Stream{}, [this, copy](Stream on) {
            return PackRows(context_.device.kernels(), copy, on);
          }));
    }
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

// What is leased belongs to the set before anything is enqueued that writes to
// it: if a later allocation fails the group breaks, but what has left still
// lands.
absl::Status ShardedWeights::Start(LayerSet& set) {
  Device& device = context_.device;
  set.gathered = true;
  for (int region : set.regions) {
    ZEROMINI_RETURN_IF_ERROR(LeaseRegion(region, set));
  }
  bool unpacks = false;
  Event landed;
  for (int bucket : set.buckets) {
    const bool in_place = layout(bucket).in_place();
    unpacks = unpacks || !in_place;
    ZEROMINI_ASSIGN_OR_RETURN(
        landed, in_place ? GatherInPlace(bucket) : GatherPacked(bucket));
  }
  set.done = landed;
  if (!unpacks) return absl::OkStatus();
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(device.compute(), landed));
  set.done = device.Record(device.compute());
  return absl::OkStatus();
}

absl::Status ShardedWeights::LeaseRegion(int region, LayerSet& set) {
  ZEROMINI_ASSIGN_OR_RETURN(gathered_[region], pool_.Take(RegionBytes(region)));
  void* const tensors = gathered_[region].buffer.get();
  for (int bucket : set.buckets) {
    for (const Part& part : layout(bucket).parts) {
      const PlannedParam& param = context_.plan.params[part.param];
      if (param.region != region) continue;
      store_.SetWeights(part.param,
                        ElementAt(tensors, param.region_offset, param.dtype));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Event> ShardedWeights::AllGather(int bucket, void* all) {
  const BucketPlan& plan = layout(bucket);
  Device& device = context_.device;
  Communicator& group = ranks(bucket);
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(group.stream(), updated_[bucket]));
  const bool rounds = plan.dtype == DType::kFloat32;
  ZEROMINI_RETURN_IF_ERROR(group.AllGather(
      segment(bucket), all, plan.segment, plan.dtype,
      Exchange{Purpose::kWeights, bucket,
               plan.segment * group.size() - plan.elements,
               rounds ? context_.options.weight_wire : DType::kFloat32,
               context_.plan.hash}));
  return device.Record(group.stream());
}

absl::StatusOr<Event> ShardedWeights::GatherInPlace(int bucket) {
  const BucketPlan& plan = layout(bucket);
  const LeasePool::Lease& region = gathered_[plan.region];
  ZEROMINI_RETURN_IF_ERROR(pool_.WaitFor(ranks(bucket).stream(), region));
  return AllGather(
      bucket, ElementAt(region.buffer.get(), plan.region_offset, plan.dtype));
}

absl::StatusOr<Event> ShardedWeights::GatherPacked(int bucket) {
  Device& device = context_.device;
  const Stream compute = device.compute();
  ZEROMINI_ASSIGN_OR_RETURN(LeasePool::Lease wire,
                            pool_.Take(FullBytes(bucket)));
  void* const all = wire.buffer.get();
  ZEROMINI_RETURN_IF_ERROR(pool_.WaitFor(ranks(bucket).stream(), wire));
  absl::StatusOr<Event> landed = AllGather(bucket, all);
  // A released set's tensors are gone from the store before the stream gets
  // here.
  std::vector<void*> tensors(context_.plan.params.size(), nullptr);
  absl::Status unpacked = landed.status();
  for (const Part& part : layout(bucket).parts) {
    tensors[part.param] = store_.weights(part.param);
    const int region = context_.plan.params[part.param].region;
    unpacked.Update(pool_.WaitFor(compute, gathered_[region]));
  }
  if (unpacked.ok()) unpacked = device.WaitFor(compute, *landed);
  if (unpacked.ok()) {
    unpacked = device.Launch(
        compute, [this, bucket, all, tensors = std::move(tensors)](Stream on) {
          return UnpackRuns(bucket, all, tensors, on);
        });
  }
  // Whatever has failed, what has left may still land.
  device.Keep(wire.buffer, ranks(bucket).stream());
  wire.ready = {device.Record(compute), nullptr};
  pool_.Give(std::move(wire));
  ZEROMINI_RETURN_IF_ERROR(unpacked);
  return landed;
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
    for (const Part& part : layout(bucket).parts) {
      store_.SetWeights(part.param, nullptr);
    }
  }
  Device& device = context_.device;
  // They live until the reader is done, whatever becomes of this object.
  for (int region : released->regions) {
    device.Keep(gathered_[region].buffer, reader);
  }
  const Event after = device.Record(reader);
  for (int region : released->regions) {
    LeasePool::Lease lease =
        std::exchange(gathered_[region], LeasePool::Lease());
    // Perhaps nobody has waited for the gather.
    lease.ready = {released->done, after};
    pool_.Give(std::move(lease));
  }
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

absl::StatusOr<std::vector<Event>> ShardedWeights::Ready(int param,
                                                         int asked_as) const {
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
  return std::vector<Event>{by_id_.at(planned.layer_set).done};
}

void ShardedWeights::AddPending(std::vector<Event>* events) const {
  for (const auto& entry : by_id_) {
    if (entry.second.gathered) events->push_back(entry.second.done);
  }
}

}  // namespace zeromini
