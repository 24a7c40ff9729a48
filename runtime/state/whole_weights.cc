#include "runtime/state/whole_weights.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "shard/shard_format.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

absl::Status NothingToGather(int stage) {
  return absl::FailedPreconditionError(
      absl::StrCat("weights are whole on every rank at stage ", stage,
                   ": there is nothing to gather or release"));
}

}  // namespace

WholeWeights::WholeWeights(const HomeContext& context, ParamStore store)
    : WeightHome(context, std::move(store)),
      leases_(context.plan.buckets.size()),
      sources_(context.plan.buckets.size(), nullptr),
      done_(context.plan.buckets.size()) {}

void* WholeWeights::WholeBucket(int bucket) const {
  void* const flat = store_.flat_weights(bucket);
  return flat != nullptr ? flat : leases_[bucket].buffer.get();
}

absl::Status WholeWeights::Lease(int bucket) {
  LeasePool& pool = context_.exchange_buffers;
  const BucketPlan& plan = layout(bucket);
  const int64_t bytes =
      plan.segment * SizeOf(plan.dtype) * context_.plan.options.ranks;
  // A budget may have room for one: then the bucket before gives its own back,
  // and this update waits until that has arrived.
  if (!pool.Has(bytes)) ZEROMINI_RETURN_IF_ERROR(Settle());
  ZEROMINI_ASSIGN_OR_RETURN(leases_[bucket], pool.Take(bytes));
  return pool.WaitFor(context_.device.compute(), leases_[bucket]);
}

absl::StatusOr<WeightHome::Place> WholeWeights::Open(int bucket) {
  if (Packs(bucket)) ZEROMINI_RETURN_IF_ERROR(Lease(bucket));
  const BucketPlan& plan = layout(bucket);
  Place place;
  place.segment = ElementAt(WholeBucket(bucket),
                            plan.segment * ranks(bucket).rank(), plan.dtype);
  place.in_segment = store_.flat_weights(bucket) != nullptr;
  if (Rounds(bucket)) {
    // So that the fp32 weights outlive their rounding.
    place = {context_.state.master_segment(bucket), /*in_segment=*/true};
  }
  sources_[bucket] = place.segment;
  return place;
}

absl::Status WholeWeights::Send(int bucket,
                                std::shared_ptr<const Moves> moves) {
  Device& device = context_.device;
  Communicator& group = ranks(bucket);
  Travel travel = {bucket, device.Record(device.compute()), std::move(moves)};
  if (group.size() > 1 || Rounds(bucket)) {
    const BucketPlan& plan = layout(bucket);
    const Exchange exchange = {
        Purpose::kWeights, bucket, plan.segment * group.size() - plan.elements,
        Rounds(bucket) ? context_.options.weight_wire : DType::kFloat32,
        context_.plan.hash};
    ZEROMINI_RETURN_IF_ERROR(device.WaitFor(group.stream(), travel.gathered));
    ZEROMINI_RETURN_IF_ERROR(group.AllGather(sources_[bucket],
                                             WholeBucket(bucket), plan.segment,
                                             plan.dtype, exchange));
    travel.gathered = device.Record(group.stream());
  }
  ZEROMINI_RETURN_IF_ERROR(Settle());
  travelling_ = std::move(travel);
  return absl::OkStatus();
}

absl::Status WholeWeights::Settle() {
  if (travelling_.bucket < 0) return absl::OkStatus();
  return Unpack(std::exchange(travelling_, Travel()));
}

absl::Status WholeWeights::UnpackOthers(int bucket, const void* all,
                                        const Moves& moves, Stream on) const {
  const BucketPlan& plan = layout(bucket);
  const int own = ranks(bucket).rank();
  for (int rank = 0; rank < ranks(bucket).size(); ++rank) {
    for (const Run& run : plan.runs[rank]) {
      const PlannedParam& param = context_.plan.params[run.param];
      // Own rows were updated where they live, unless they are columns or the
      // update was a master's.
      const bool here = rank == own && !param.transposed && !Rounds(bucket);
      if (here || !moves.may[run.param]) continue;
      const void* from =
          ElementAt(all, plan.segment * rank + run.offset, plan.dtype);
      ZEROMINI_RETURN_IF_ERROR(UnpackRows(context_.device.kernels(),
                                          {param,
                                           {run.first_row, run.rows},
                                           from,
                                           store_.weights(run.param),
                                           {plan.dtype, plan.dtype},
                                           moves.only_if[run.param]},
                                          on));
    }
  }
  return absl::OkStatus();
}

absl::Status WholeWeights::Unpack(Travel travel) {
  const int bucket = travel.bucket;
  LeasePool::Lease& lease = leases_[bucket];
  if (lease.buffer == nullptr) {
    done_[bucket] = std::move(travel.gathered);
    return absl::OkStatus();
  }
  Device& device = context_.device;
  const Stream compute = device.compute();
  ZEROMINI_RETURN_IF_ERROR(device.WaitFor(compute, travel.gathered));
  ZEROMINI_RETURN_IF_ERROR(
      device.Launch(compute, [this, bucket, all = lease.buffer.get(),
                              moves = std::move(travel.moves)](Stream on) {
        return UnpackOthers(bucket, all, *moves, on);
      }));
  done_[bucket] = device.Record(compute);
  // Step() runs on a thread that may exchange: where exchanges do not overlap
  // this one has ended.
  lease.ready = {done_[bucket], nullptr};
  lease.exchanged = nullptr;
  context_.exchange_buffers.Give(std::exchange(lease, LeasePool::Lease()));
  return absl::OkStatus();
}

absl::Status WholeWeights::CopyRun(int, const Run& run, void* to,
                                   CopyTypes types, Stream on) const {
  return PackRows(context_.device.kernels(),
                  {context_.plan.params[run.param],
                   {run.first_row, run.rows},
                   store_.weights(run.param),
                   to,
                   types},
                  on);
}

absl::Status WholeWeights::CheckGather(int) {
  return NothingToGather(context_.options.stage);
}
absl::Status WholeWeights::Gather(int, GatherPass) {
  return NothingToGather(context_.options.stage);
}
absl::Status WholeWeights::Release(int, Stream) {
  return NothingToGather(context_.options.stage);
}

absl::StatusOr<std::vector<Event>> WholeWeights::Ready(int param, int) const {
  std::vector<Event> ready;
  for (int bucket : context_.plan.params[param].buckets) {
    ready.push_back(done_[bucket]);
  }
  return ready;
}

void WholeWeights::AddPending(std::vector<Event>* events) const {
  events->insert(events->end(), done_.begin(), done_.end());
}

}  // namespace zeromini
