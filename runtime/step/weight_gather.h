// WeightGather: brings every rank's updated rows of a bucket to all ranks and
// into the caller's tensors.

#ifndef ZEROMINI_RUNTIME_STEP_WEIGHT_GATHER_H_
#define ZEROMINI_RUNTIME_STEP_WEIGHT_GATHER_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/device/wire_pool.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/param_store.h"
#include "zeromini/communicator.h"
#include "zeromini/plan.h"

namespace zeromini {

// True if fp32 weights of the bucket travel as fewer bits.
inline bool RoundsOnWire(const Plan& plan, int bucket, DType wire) {
  return wire != DType::kFloat32 &&
         plan.buckets[bucket].dtype == DType::kFloat32;
}

// Stages 1 and 2. Used by one thread at a time, except WaitFor().
class WeightGather {
 public:
  // `wire`: what fp32 weights travel as. All of a gathered bucket is rounded to
  // it, this rank's rows too, on one rank too.
  WeightGather(const Plan& plan, const ParamStore& store, Device& device,
               WirePool& pool, const RankGroups& groups, DType wire);

  // Of plan's buckets, the most that a gather buffer must hold.
  static int64_t BufferBytes(const Plan& plan, const OptimizerOptions& options);

  // Where this rank's segment of `bucket` is to be written on the compute
  // stream, or null if its rows are updated in the caller's tensors alone.
  absl::StatusOr<void*> Open(int bucket);

  // The update of `segment` has been submitted: sends it. It is what Open()
  // gave or, so that the fp32 weights outlive their rounding, a master.
  absl::Status Send(int bucket, const void* segment);

  // Submits the copies into the caller's tensors, of parameters that are
  // `present`, behind the exchange. `present` must live until Wait().
  absl::Status Unpack(int bucket, const std::vector<char>& present);

  // The point from which the bucket's weights are new; null before any step.
  const Event& done(int bucket) const { return done_[bucket]; }

 private:
  bool Packs(int bucket) const;  // Through a buffer of the pool.
  bool Rounds(int bucket) const { return RoundsOnWire(plan_, bucket, wire_); }
  Communicator& GroupOf(int bucket) const {
    return *groups_.of(plan_.buckets[bucket]).shards;
  }

  const Plan& plan_;
  const ParamStore& store_;
  Device& device_;
  WirePool& pool_;
  const RankGroups& groups_;
  const DType wire_;
  std::vector<Buffer> buffers_;  // Per bucket, while it travels.
  std::vector<Event> gathered_;
  std::vector<Event> done_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_WEIGHT_GATHER_H_
