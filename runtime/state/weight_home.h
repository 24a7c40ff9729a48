// WeightHome: where weights are on this rank, and how they get back to all
// ranks after an update. One way keeps them whole on every rank, one in shards;
// nobody else asks which.

#ifndef ZEROMINI_RUNTIME_STATE_WEIGHT_HOME_H_
#define ZEROMINI_RUNTIME_STATE_WEIGHT_HOME_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/device/lease_pool.h"
#include "runtime/device/row_packing.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/param_store.h"
#include "runtime/state/shard_state.h"
#include "zeromini/optimizer.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Which parameters an update moves. What the host has not read of the decision
// is for the kernels to read.
struct Moves {
  std::vector<char> may;                    // By parameter. 0: surely not.
  std::vector<const StepScalars*> only_if;  // Null: if `may` says so.

  bool Any(const BucketPlan& bucket) const;
};

// What all homes of an optimizer share. Outlived by its members.
struct HomeContext {
  const Plan& plan;
  const OptimizerOptions& options;
  const ShardState& state;
  Device& device;
  const RankGroups& groups;
  LeasePool& exchange_buffers;
};

// One thread at a time: the one that holds the pipeline's exchange lock, or the
// one in Step().
class WeightHome {
 public:
  virtual ~WeightHome() = default;

  const ParamStore& store() const { return store_; }
  // The full tensor, of the parameter's dtype; null while no rank has it.
  void* tensor(int param) const { return store_.weights(param); }

  // Every rank keeps all of the parameter at all times.
  virtual bool KeepsWhole(int param) const = 0;

  // Gradients and gathers share a stream, so all ranks must call for them in
  // one order.
  virtual bool orders_calls() const = 0;

  // Where the update of `bucket` is to work, on the compute stream. With a
  // segment, its runs are updated there by Run::offset; if not `in_segment` in
  // tensor(), and then packed to the segment, if there is one.
  struct Place {
    void* segment = nullptr;
    bool in_segment = false;
  };
  virtual absl::StatusOr<Place> Open(int bucket) = 0;

  // The bucket's update has been enqueued; brings it to all ranks, one bucket
  // behind, so that no kernel waits for the weights of the bucket before.
  // Settle() after the last.
  virtual absl::Status Send(int bucket, std::shared_ptr<const Moves> moves) = 0;
  virtual absl::Status Settle() = 0;

  // Calls kernels on `on`: this rank's rows of a run as they are now, packed at
  // `to`. For Device::Launch().
  virtual absl::Status CopyRun(int bucket, const Run& run, void* to,
                               CopyTypes types, Stream on) const = 0;

  // Takes what this rank keeps from `tensor`, full and readable by kernels, on
  // the null stream.
  virtual absl::Status Adopt(int param, const void* tensor) = 0;

  // See Optimizer. FailedPrecondition if weights are whole. CheckGather():
  // InvalidArgument or ResourceExhausted, on every rank alike, and nothing has
  // happened; Gather() requires it, and any error of it breaks the step.
  virtual absl::Status CheckGather(int layer_set) = 0;
  virtual absl::Status Gather(int layer_set, GatherPass pass) = 0;
  virtual absl::Status Release(int layer_set, Stream reader) = 0;
  virtual absl::Status ReleaseAll() = 0;

  // The points from which all of tensor(param) is as it shall be.
  // FailedPrecondition if it is not gathered. `asked_as`: the parameter in the
  // message.
  virtual absl::StatusOr<std::vector<Event>> Ready(int param,
                                                   int asked_as) const = 0;
  // Those points of all that is on its way.
  virtual void AddPending(std::vector<Event>* events) const = 0;

 protected:
  WeightHome(const HomeContext& context, ParamStore store)
      : context_(context), store_(std::move(store)) {}

  const BucketPlan& layout(int bucket) const {
    return context_.plan.buckets[bucket];
  }
  Communicator& ranks(int bucket) const {
    return *context_.groups.of(layout(bucket)).shards;
  }

  const HomeContext context_;
  ParamStore store_;
};

// By the options. Allocates what rests, and fills it from `specs`.
absl::StatusOr<std::unique_ptr<WeightHome>> MakeWeightHome(
    const HomeContext& context, absl::Span<const ParamSpec> specs);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_WEIGHT_HOME_H_
