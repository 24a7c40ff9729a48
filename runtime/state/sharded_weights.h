// ShardedWeights: at rest a rank holds its segment of each bucket; full tensors
// exist while their layer set is gathered, in buffers that take no more than a
// budget.

#ifndef ZEROMINI_RUNTIME_STATE_SHARDED_WEIGHTS_H_
#define ZEROMINI_RUNTIME_STATE_SHARDED_WEIGHTS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "runtime/state/weight_home.h"

namespace zeromini {

class ShardedWeights : public WeightHome {
 public:
  static absl::StatusOr<std::unique_ptr<ShardedWeights>> Create(
      const HomeContext& context, ParamStore store);

  bool KeepsWhole(int param) const override {
    return !context_.plan.params[param].has_state();
  }
  bool orders_calls() const override { return true; }
  absl::StatusOr<Place> Open(int bucket) override;
  absl::Status Send(int bucket, std::shared_ptr<const Moves> moves) override;
  absl::Status Settle() override { return absl::OkStatus(); }
  absl::Status CopyRun(int bucket, const Run& run, void* to, CopyTypes types,
                       Stream on) const override;
  absl::Status Adopt(int param, const void* tensor) override;
  absl::Status CheckGather(int layer_set) override;
  absl::Status Gather(int layer_set, GatherPass pass) override;
  absl::Status Release(int layer_set, Stream reader) override;
  absl::Status ReleaseAll() override;
  absl::StatusOr<std::vector<Event>> Ready(int param,
                                           int asked_as) const override;
  void AddPending(std::vector<Event>* events) const override;

 private:
  struct LayerSet {
    std::vector<int> buckets;
    std::vector<int> regions;
    int64_t bytes = 0;  // What gathering takes at most.
    bool gathered = false;
    Event done;
  };

  ShardedWeights(const HomeContext& context, ParamStore store);

  absl::Status Allocate();
  int64_t FullBytes(int bucket) const;
  int64_t RegionBytes(int region) const;
  // This rank's segment of `bucket`, of its dtype.
  void* segment(int bucket) const { return shards_[bucket].get(); }
  absl::StatusOr<LayerSet*> Find(int layer_set);
  absl::Status Start(LayerSet& set);
  absl::Status LeaseRegion(int region, LayerSet& set);
  // Both enqueue; the weights are there at the event.
  absl::StatusOr<Event> GatherInPlace(int bucket);
  absl::StatusOr<Event> GatherPacked(int bucket);
  absl::StatusOr<Event> AllGather(int bucket, void* all);
  absl::Status UnpackRuns(int bucket, const void* all,
                          const std::vector<void*>& tensors, Stream on) const;
  absl::Status Prefetch(int layer_set, GatherPass pass);

  LeasePool pool_;
  std::vector<Buffer> shards_;  // By bucket.
  // By bucket: its segment is as it shall be. A gather waits for it.
  std::vector<Event> updated_;
  std::map<int, LayerSet> by_id_;
  std::vector<LeasePool::Lease> gathered_;  // By region; empty if it is not.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_SHARDED_WEIGHTS_H_
