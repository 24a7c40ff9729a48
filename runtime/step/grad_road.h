// GradRoad: the way of gradients from the caller to this rank's shard of their
// sum: arrival, packing, exchanges in one bucket order, and the statistics of
// what has landed.

#ifndef ZEROMINI_RUNTIME_STEP_GRAD_ROAD_H_
#define ZEROMINI_RUNTIME_STEP_GRAD_ROAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/state/shard_state.h"
#include "runtime/step/grad_bucket.h"
#include "shard/sum_spans.h"
#include "zeromini/kernels.h"
#include "zeromini/options.h"

namespace zeromini {

// Add() from any thread. The rest from one at a time: whoever holds the
// pipeline's exchange lock, which orders exchanges alike on all ranks.
class GradRoad {
 public:
  // `words`: of the step's scalars, in device memory, by ScalarWords() and
  // SplitWordsOf(). All must outlive the road.
  static absl::StatusOr<std::unique_ptr<GradRoad>> Create(
      const BucketContext& context, const OptimizerOptions& options,
      const ShardState& state, int64_t* words);

  // See Optimizer::GradReady(); `param` as it was given. `home`: where the
  // caller's sum is, if anywhere. `refused`: whether an error is one of the
  // caller's, which has changed nothing. Calls `fire_ready`, which is to fire
  // all exchanges that NextReady(), once for each bucket of the parameter, in
  // the order in which they leave.
  using FireReady = std::function<absl::Status()>;
  absl::Status Add(int param, const void* gradient, const float* home,
                   Stream stream, const FireReady& fire_ready, bool* refused);

  // The next exchange has all gradients.
  bool NextReady() const;
  bool AllFired() const { return fired_ >= Exchanges(); }
  absl::Status FireNext();  // Requires !AllFired().

  // Clips the landed gradients to +-`limit` and takes their statistics, of all
  // buckets. Only for SumsNeeded::late.
  absl::Status ClampAll(float limit);

  // This rank's shard of the sum, as long as the step lasts; on the compute
  // stream.
  float* shard(int bucket) const { return buckets_[bucket]->shard(); }
  bool full(int bucket) const { return buckets_[bucket]->full(); }
  // In this step: see Method::Refreshes().
  bool Refreshes(int param) const {
    return context_.methods[param].method->Refreshes(step_);
  }
  double* block_sums(int bucket) const { return Doubles(block_sums_[bucket]); }

  // Has come on this rank: in all micro-steps, or in one if `any`.
  bool Present(int param, bool any) const;
  // In some micro-step, `given_as` has not come, which `param` owns.
  bool Lacks(int param, int given_as) const;

  // The compute stream has read the shard once `event` has passed.
  void SetBusy(int bucket, Event event) {
    buckets_[bucket]->SetBusy(std::move(event));
  }

  // For the next step. If not all was `refreshed` that was due it stays due.
  void Reset(bool refreshed);

  // Of the bucket whose exchange did not match, or of the one that has not left
  // for want of a gradient; empty if gradients have no part in it.
  std::string OrderHint() const;

 private:
  GradRoad(const BucketContext& context, const OptimizerOptions& options,
           const ShardState& state, int64_t* words);

  int buckets() const { return static_cast<int>(buckets_.size()); }
  int Exchanges() const { return buckets() * per_step_; }
  // Backward ends with the first layer, so the last bucket is ready first.
  int BucketAt(int exchange) const {
    return buckets() - 1 - exchange % buckets();
  }
  // All buckets of a parameter have seen the same of its gradients.
  const GradBucket& AnyOf(int param) const {
    return *buckets_[context_.plan.params[param].buckets.front()];
  }
  absl::Status AddBucket(int bucket, const ShardState& state);
  absl::StatusOr<Buffer> Upload(const std::vector<SumSpan>& spans) const;
  absl::Status SubmitStatistics(int bucket, float limit);
  void BeginStep();

  const BucketContext context_;
  const SumsNeeded sums_;
  const int per_step_;  // Exchanges of a bucket.
  const ColumnSums columns_;
  int64_t* const words_;
  std::vector<std::unique_ptr<GradBucket>> buckets_;

  struct SpanTable {
    Buffer spans;  // Of SumSpan.
    int64_t count = 0;
  };
  // By bucket, as gradients travel usually and, where that differs, whole.
  std::vector<SpanTable> spans_;
  std::vector<SpanTable> full_spans_;
  std::vector<Buffer> block_sums_;  // By bucket; doubles.
  // By parameter: two gradients of one come to all of its buckets in one order.
  // Taken before the pipeline's exchange lock, and that before a bucket's own.
  std::vector<std::mutex> arrivals_;
  int fired_ = 0;     // Exchanges of this step that have left.
  int64_t step_ = 0;  // Steps begun before this one.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_GRAD_ROAD_H_
