// ShardUpdate: moves what this rank owns of one bucket, from the gradient that
// has landed and the decision in device memory.

#ifndef ZEROMINI_RUNTIME_STEP_SHARD_UPDATE_H_
#define ZEROMINI_RUNTIME_STEP_SHARD_UPDATE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/state/shard_state.h"
#include "runtime/state/weight_home.h"
#include "runtime/step/grad_road.h"
#include "runtime/step/method.h"
#include "runtime/step/step_decider.h"
#include "runtime/step/tiled_update.h"

namespace zeromini {

// Used by one thread at a time. What it enqueues refers to it, so the compute
// stream must have passed before it goes.
class ShardUpdate {
 public:
  // All must outlive it.
  struct Parts {
    const Plan& plan;
    const std::vector<ParamMethod>& methods;
    ShardState& state;
    const WeightHome& home;
    const GradRoad& road;
    const StepDecider& decider;
    Device& device;
  };

  static absl::StatusOr<std::unique_ptr<ShardUpdate>> Create(
      const Parts& parts, const OptimizerOptions& options);

  // Masters of weights that were set from outside, which rest as their numbers
  // say: a weight that is a number of its dtype leaves no remainder.
  absl::Status TakeMasters();

  // Enqueues the update of `bucket` at `place`, of parameters that `moves`.
  absl::Status Submit(int bucket, const WeightHome::Place& place,
                      std::shared_ptr<const Moves> moves);

  // In kernels of updates that have ended, since the last call.
  double TakeSeconds() {
    return static_cast<double>(nanos_->exchange(0)) * 1e-9;
  }

 private:
  ShardUpdate(const Parts& parts, bool takes_all_sums)
      : parts_(parts), takes_all_sums_(takes_all_sums) {}

  // A bucket's update, as it was when it was submitted: the road goes on to
  // the next step before the stream gets there.
  struct BucketJob {
    int bucket;
    WeightHome::Place place;
    const float* shard;
    bool full_gradients;
  };

  absl::Status TakeMaster(int bucket, const RunState& run);
  // Both call kernels on `on`.
  absl::Status UpdateRun(const BucketJob& job, const RunState& run,
                         Stream on) const;
  absl::Status UpdateAt(const BucketJob& job, const RunState& run,
                        void* weights, Stream on) const;

  const Parts parts_;
  const bool takes_all_sums_;
  TiledUpdate tiles_;
  const std::shared_ptr<std::atomic<int64_t>> nanos_ =
      std::make_shared<std::atomic<int64_t>>(0);
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_SHARD_UPDATE_H_
