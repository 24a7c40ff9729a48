// WholeWeights: every rank keeps all weights; a step gathers what each rank has
// updated.

#ifndef ZEROMINI_RUNTIME_STATE_WHOLE_WEIGHTS_H_
#define ZEROMINI_RUNTIME_STATE_WHOLE_WEIGHTS_H_

#include <memory>
#include <vector>

#include "runtime/state/weight_home.h"
#include "shard/exchange_places.h"

namespace zeromini {

class WholeWeights : public WeightHome {
 public:
  WholeWeights(const HomeContext& context, ParamStore store);

  bool KeepsWhole(int) const override { return true; }
  bool orders_calls() const override { return false; }
  absl::StatusOr<Place> Open(int bucket) override;
  absl::Status Send(int bucket, std::shared_ptr<const Moves> moves) override;
  absl::Status Settle() override;
  absl::Status CopyRun(int bucket, const Run& run, void* to, CopyTypes types,
                       Stream on) const override;
  absl::Status Adopt(int, const void*) override { return absl::OkStatus(); }
  absl::Status CheckGather(int layer_set) override;
  absl::Status Gather(int layer_set, GatherPass pass) override;
  absl::Status Release(int layer_set, Stream reader) override;
  absl::Status ReleaseAll() override { return absl::OkStatus(); }
  absl::StatusOr<std::vector<Event>> Ready(int param,
                                           int asked_as) const override;
  void AddPending(std::vector<Event>* events) const override;

 private:
  // A bucket whose weights are on their way.
  struct Travel {
    int bucket = -1;
    Event gathered;
    std::shared_ptr<const Moves> moves;
  };

  bool Rounds(int bucket) const {
    return context_.state.layout(bucket).master_is_segment;
  }
  bool Packs(int bucket) const {  // Through a buffer of the pool.
    return WeightsNeedBuffer(context_.plan, bucket, context_.options);
  }
  absl::Status Lease(int bucket);
  // Where the gathered bucket is, if anywhere but in the tensors.
  void* WholeBucket(int bucket) const;
  absl::Status UnpackOthers(int bucket, const void* all, const Moves& moves,
                            Stream on) const;
  absl::Status Unpack(Travel travel);

  std::vector<LeasePool::Lease> leases_;  // By bucket, while it travels.
  std::vector<void*> sources_;            // By bucket: the segment to send.
  std::vector<Event> done_;               // By bucket; null before any step.
  Travel travelling_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_WHOLE_WEIGHTS_H_
