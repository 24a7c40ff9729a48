#include "runtime/state/weight_shards.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/device/row_packing.h"
#include "runtime/group/agreement.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::Status GatherPool::CheckRoom(int64_t bytes) const {
  if (budget_ == 0 || taken_ + bytes <= budget_) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      "gathering ", bytes, " bytes of weights beside the ", taken_,
      " that are gathered would exceed gather_budget_bytes, ", budget_));
}

absl::StatusOr<GatherPool::Lease> GatherPool::Take(int64_t bytes) {
  const auto same =
      std::find_if(free_.begin(), free_.end(),
                   [bytes](const Lease& free) { return free.bytes == bytes; });
  if (same != free_.end()) {
    Lease lease = std::move(*same);
    free_.erase(same);
    kept_ -= bytes;
    taken_ += bytes;
    return lease;
  }
  while (budget_ > 0 && !free_.empty() && taken_ + kept_ + bytes > budget_) {
    ZEROMINI_RETURN_IF_ERROR(DropOldest());
  }
  Lease lease;
  ZEROMINI_ASSIGN_OR_RETURN(lease.buffer,
                            device_.Allocate(bytes, MemoryKind::kGathered));
  lease.bytes = bytes;
  taken_ += bytes;
  return lease;
}

// A gather that nobody waited for may still write to what was given back.
absl::Status GatherPool::DropOldest() {
  for (const Event& event : free_.front().ready) {
    ZEROMINI_RETURN_IF_ERROR(
        device_.Synchronize(event, absl::Now() + patience_));
  }
  kept_ -= free_.front().bytes;
  free_.pop_front();
  return absl::OkStatus();
}

absl::Status GatherPool::WaitFor(Stream stream, const Lease& lease) const {
  for (const Event& event : lease.ready) {
    ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(stream, event));
  }
  return absl::OkStatus();
}

void GatherPool::Give(Lease lease) {
  taken_ -= lease.bytes;
  kept_ += lease.bytes;
  free_.push_back(std::move(lease));
}

WeightShards::WeightShards(const OptimizerOptions& options, const Plan& plan,
                           ParamStore& store, Device& device,
                           const RankGroups& groups)
    : options_(options),
      plan_(plan),
      store_(store),
      device_(device),
      groups_(groups),
      pool_(device, options.gather_budget_bytes,
            StreamPatience(groups.world())) {}

int64_t WeightShards::FullBytes(int bucket) const {
  const BucketPlan& layout = plan_.buckets[bucket];
  return layout.segment * plan_.options.ranks * SizeOf(layout.dtype);
}

int64_t WeightShards::TensorBytes(int param) const {
  const PlannedParam& planned = plan_.params[param];
  return planned.rows * planned.row_elements * SizeOf(planned.dtype);
}

absl::Status WeightShards::Allocate() {
  if (options_.stage != 3) return absl::OkStatus();
  updated_.resize(plan_.buckets.size());
  for (size_t b = 0; b < plan_.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    const BucketPlan& layout = plan_.buckets[b];
    ZEROMINI_ASSIGN_OR_RETURN(
        Buffer shard, device_.Allocate(layout.segment * SizeOf(layout.dtype),
                                       MemoryKind::kWeights));
    shards_.push_back(std::move(shard));
    // The planner never mixes layer sets in a bucket.
    Group& group = by_id_[plan_.params[layout.params.front()].layer_set];
    group.buckets.push_back(bucket);
    group.bytes += FullBytes(bucket);
    if (layout.in_place) continue;
    for (int param : layout.params) group.bytes += TensorBytes(param);
  }
  return absl::OkStatus();
}

void WeightShards::TakeRows(int param, const void* tensor) {
  const PlannedParam& planned = plan_.params[param];
  const int bucket = planned.bucket;
  const BucketPlan& layout = plan_.buckets[bucket];
  const int rank = groups_.of(layout).shards->rank();
  for (const Run& run : layout.runs[rank]) {
    if (run.param != param) continue;
    PackRows(device_.kernels(), planned, {run.first_row, run.rows}, tensor,
             ElementAt(segment(bucket), run.offset, layout.dtype),
             {layout.dtype, layout.dtype}, Stream{});
  }
}

absl::StatusOr<WeightShards::Group*> WeightShards::Find(int group) {
  const auto found = by_id_.find(group);
  if (found != by_id_.end()) return &found->second;
  return absl::InvalidArgumentError(
      absl::StrCat("no parameter is in layer set ", group,
                   " that is gathered: frozen ones are whole, and tied ones "
                   "come with what they are tied to"));
}

absl::Status WeightShards::CheckGather(int group) {
  ZEROMINI_ASSIGN_OR_RETURN(const Group* const wanted, Find(group));
  return wanted->gathered ? absl::OkStatus() : pool_.CheckRoom(wanted->bytes);
}

absl::Status WeightShards::Gather(int group, GatherPass pass) {
  ZEROMINI_ASSIGN_OR_RETURN(Group* const wanted, Find(group));
  if (!wanted->gathered) ZEROMINI_RETURN_IF_ERROR(Start(*wanted));
  return Prefetch(group, pass);
}

absl::Status WeightShards::Prefetch(int group, GatherPass pass) {
  // What is outside of the layers has no next.
  if (pass == GatherPass::kNone || group < 0) return absl::OkStatus();
  auto next = by_id_.find(group);
  for (int i = 0; i < options_.prefetch; ++i) {
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

absl::Status WeightShards::Start(Group& group) {
  group.gathered = true;
  bool unpacks = false;
  Event landed;
  for (int bucket : group.buckets) {
    unpacks = unpacks || !plan_.buckets[bucket].in_place;
    ZEROMINI_ASSIGN_OR_RETURN(landed, GatherBucket(bucket, group));
  }
  group.done = landed;
  if (!unpacks) return absl::OkStatus();
  ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(device_.compute(), landed));
  group.done = device_.Record(device_.compute());
  return absl::OkStatus();
}

absl::StatusOr<Event> WeightShards::GatherBucket(int bucket, Group& group) {
  const BucketPlan& layout = plan_.buckets[bucket];
  Communicator& ranks = *groups_.of(layout).shards;
  ZEROMINI_ASSIGN_OR_RETURN(GatherPool::Lease wire,
                            pool_.Take(FullBytes(bucket)));
  ZEROMINI_RETURN_IF_ERROR(pool_.WaitFor(ranks.stream(), wire));
  ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(ranks.stream(), updated_[bucket]));
  const bool rounds = layout.dtype == DType::kFloat32;
  ZEROMINI_RETURN_IF_ERROR(ranks.AllGather(
      segment(bucket), wire.buffer.get(), layout.segment, layout.dtype,
      Exchange{Purpose::kWeights, bucket,
               layout.segment * ranks.size() - layout.elements,
               rounds ? options_.weight_wire : DType::kFloat32, plan_.hash}));
  Event landed = device_.Record(ranks.stream());
  if (!layout.in_place) {
    ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(device_.compute(), landed));
    ZEROMINI_RETURN_IF_ERROR(UnpackBucket(bucket, std::move(wire), group));
    return landed;
  }
  for (size_t i = 0; i < layout.params.size(); ++i) {
    store_.SetWeights(
        layout.params[i],
        ElementAt(wire.buffer.get(), layout.param_offset[i], layout.dtype));
  }
  group.leases.push_back(std::move(wire));
  return landed;
}

absl::Status WeightShards::UnpackBucket(int bucket, GatherPool::Lease wire,
                                        Group& group) {
  const BucketPlan& layout = plan_.buckets[bucket];
  const Stream compute = device_.compute();
  for (int param : layout.params) {
    ZEROMINI_ASSIGN_OR_RETURN(GatherPool::Lease tensor,
                              pool_.Take(TensorBytes(param)));
    ZEROMINI_RETURN_IF_ERROR(pool_.WaitFor(compute, tensor));
    store_.SetWeights(param, tensor.buffer.get());
    group.leases.push_back(std::move(tensor));
  }
  std::vector<void*> tensors(plan_.params.size(), nullptr);
  for (int param : layout.params) tensors[param] = store_.weights(param);
  device_.Submit(compute, [this, bucket, all = wire.buffer,
                           tensors = std::move(tensors)](Stream on) {
    const BucketPlan& from = plan_.buckets[bucket];
    for (size_t rank = 0; rank < from.runs.size(); ++rank) {
      for (const Run& run : from.runs[rank]) {
        const int64_t at =
            from.segment * static_cast<int64_t>(rank) + run.offset;
        UnpackRows(device_.kernels(), plan_.params[run.param],
                   {run.first_row, run.rows},
                   ElementAt(all.get(), at, from.dtype), tensors[run.param],
                   from.dtype, on);
      }
    }
    return absl::OkStatus();
  });
  wire.ready = {device_.Record(compute), nullptr};
  pool_.Give(std::move(wire));
  return absl::OkStatus();
}

absl::Status WeightShards::Release(int group, Stream reader) {
  ZEROMINI_ASSIGN_OR_RETURN(Group* const released, Find(group));
  if (!released->gathered) return absl::OkStatus();
  for (int bucket : released->buckets) {
    for (int param : plan_.buckets[bucket].params) {
      store_.SetWeights(param, nullptr);
    }
  }
  std::vector<Buffer> read;
  for (const GatherPool::Lease& lease : released->leases) {
    read.push_back(lease.buffer);
  }
  device_.Submit(reader,
                 [read = std::move(read)](Stream) { return absl::OkStatus(); });
  const Event after = device_.Record(reader);
  for (GatherPool::Lease& lease : released->leases) {
    // Perhaps nobody has waited for the gather.
    lease.ready = {released->done, after};
    pool_.Give(std::move(lease));
  }
  released->leases.clear();
  released->gathered = false;
  released->done = nullptr;
  return absl::OkStatus();
}

absl::Status WeightShards::ReleaseAll() {
  for (const auto& entry : by_id_) {
    ZEROMINI_RETURN_IF_ERROR(Release(entry.first, Stream{}));
  }
  return absl::OkStatus();
}

void WeightShards::AddGathers(std::vector<Event>* events) const {
  for (const auto& entry : by_id_) {
    if (entry.second.gathered) events->push_back(entry.second.done);
  }
}

Event WeightShards::gathered(int group) const {
  const auto found = by_id_.find(group);
  return found == by_id_.end() ? nullptr : found->second.done;
}

}  // namespace zeromini
