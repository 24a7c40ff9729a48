// GradBucket: collects one bucket's gradients, packs them where the plan says,
// and sends them when the last has come.

#ifndef ZEROMINI_RUNTIME_STEP_GRAD_BUCKET_H_
#define ZEROMINI_RUNTIME_STEP_GRAD_BUCKET_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/device/lease_pool.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/param_store.h"
#include "runtime/step/method.h"
#include "runtime/step/wire_pieces.h"
#include "shard/exchange_places.h"
#include "zeromini/communicator.h"
#include "zeromini/plan.h"

namespace zeromini {

// What all buckets of an optimizer share. Outlived by its members.
struct BucketContext {
  const Plan& plan;
  const std::vector<ParamMethod>& methods;  // By parameter.
  const ParamStore& store;
  Device& device;
  LeasePool& pool;
  const OptimizerOptions& options;
  const RankGroups& groups;
  int micro_steps;
  bool keeps_full;  // Full gradients stay until the step's one exchange.
  DType wire;       // What gradients travel as.
};

// Thread-safe, but Fire() and Reset() come from one thread at a time. Work on a
// caller's stream owns what it touches, so the bucket need not outlive it.
class GradBucket {
 public:
  static absl::StatusOr<std::unique_ptr<GradBucket>> Create(
      const BucketContext& context, int bucket);

  // Before the first gradient of a step: whether they travel as they are, since
  // one of their methods refreshes. See Method::Refreshes().
  void BeginStep(bool full);

  // `param` owns its storage; `given_as` is the one of its sharers that this
  // gradient is of. Null `gradient`: at `home`, the flat memory that the caller
  // accumulates in. FailedPrecondition if it has been given in all micro-steps,
  // or by pointer after one at home in this step or the other way round: which
  // of the two sums holds the other is not known. `refused`: the error is this
  // one, and nothing has changed.
  struct Arrival {
    int given_as;
    const void* gradient;
    const float* home;
    Stream stream;
  };
  absl::Status Add(int param, const Arrival& arrival, bool* refused);

  // True once exchange `number` (0, or the micro-step at stage 2) has all.
  bool Ready(int number) const;

  // Enqueues exchange `number`; gradients that did not come count as zero.
  absl::Status Fire(int number);

  // After Ready() said no: a parameter whose gradients have not all come, or
  // -1.
  int FirstMissing(int number) const;

  // The point at which the last exchange that was fired has landed.
  Event landed() const;

  // This rank's reduced segment, once the last exchange has landed.
  float* shard() const;

  int arrived(int param) const;
  int expected(int param) const;
  // In some micro-step of this step, `given_as` has not been given.
  bool Lacks(int param, int given_as) const;

  // Nothing may write gradients here before `event`.
  void SetBusy(Event event);
  void Reset();  // For the next step.

  bool full() const { return full_; }
  bool projects() const { return projects_; }
  WireLayout wire() const {
    return full_ ? layout_.full_wire() : layout_.wire();
  }

 private:
  // How a parameter's gradient is packed; shared with work that is queued.
  struct Packing {
    PlannedParam param;
    ParamMethod method;
    std::vector<WirePiece> pieces;  // By Method::PackGradient().
    std::vector<WirePiece> full;    // As they are.
  };
  struct Source {
    int param = 0;
    int arrived = 0;  // In this step.
  };
  struct Slot {
    int Arrived() const;

    int param = 0;
    std::vector<Source> sources;  // Its sharers.
    bool at_home = false;         // How the last gradient came.
    bool touched = false;         // Since the last exchange.
    Event packed;  // The last of them; on another stream, perhaps.
    std::shared_ptr<const Packing> packing;
  };

  GradBucket(const BucketContext& context, int bucket)
      : context_(context),
        layout_(context.plan.buckets[bucket]),
        bucket_(bucket),
        rank_(context.groups.of(layout_).shards->rank()),
        projects_(Projects(layout_)),
        in_home_(PlaceOfGradients(layout_, context.options) ==
                 GradientPlace::kHome),
        pooled_(PlaceOfGradients(layout_, context.options) ==
                GradientPlace::kBuffer) {}

  absl::Status Allocate();
  Slot MakeSlot(int param) const;
  const std::vector<WirePiece>& PiecesOf(const Slot& slot) const {
    return full_ ? slot.packing->full : slot.packing->pieces;
  }
  Slot& SlotOf(int param);
  const Slot& SlotOf(int param) const;
  // Counts a gradient that is given as `given_as`, or says why it may not be.
  absl::Status Admit(Slot& slot, int given_as, bool at_home);
  absl::Status EnsureWire();
  int64_t WireBytes() const {  // Of all ranks.
    return GradientSegmentBytes(layout_) * context_.plan.options.ranks;
  }
  // Of its parameters, and of this rank, for messages.
  std::string Names() const;
  // Requires mutex_; `source` is read in `stream`'s order.
  absl::Status Pack(const Slot& slot, const void* source, bool accumulate,
                    Stream stream);
  // Sums this rank's segment over all ranks that hold it, into `sum`.
  absl::Status Exchange(float* sum);
  absl::Status AddToShard(const float* sum);
  absl::Status ZeroUntouched(Stream stream);

  const BucketContext context_;
  const BucketPlan& layout_;
  const int bucket_;
  const int rank_;       // Of the group that shares the bucket.
  const bool projects_;  // Some methods send less than the gradient.
  bool full_ = false;    // In this step they send all of it.
  const bool in_home_;   // The wire is the caller's own flat gradients.
  const bool pooled_;    // The wire is a pool's, the shard our own.

  mutable std::mutex mutex_;
  std::vector<Slot> slots_;
  LeasePool::Lease wire_;  // Pooled: empty between exchanges.
  float* wire_data_ = nullptr;
  Buffer shard_;  // If pooled.
  Event busy_;
  Event landed_;
  std::vector<Event> arrivals_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_GRAD_BUCKET_H_
