// WeightShards: ZeRO stage 3's weights. At rest a rank holds its segment of
// each bucket; full tensors exist while their layer set is gathered, in
// buffers that take no more than a budget.

#ifndef ZEROMINI_RUNTIME_STATE_WEIGHT_SHARDS_H_
#define ZEROMINI_RUNTIME_STATE_WEIGHT_SHARDS_H_

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/device/device.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/param_store.h"
#include "zeromini/optimizer.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Buffers of gathered weights, reused where the size is the same. What is taken
// and what is kept together never exceed the budget.
class GatherPool {
 public:
  // `patience`: how long a stream may take to be done with a buffer.
  GatherPool(Device& device, int64_t budget, absl::Duration patience)
      : device_(device), budget_(budget), patience_(patience) {}

  struct Lease {
    Buffer buffer;
    int64_t bytes = 0;
    // Whoever writes must wait for these first: the last write, the last read.
    std::array<Event, 2> ready;
  };

  // ResourceExhausted, with the numbers, if `bytes` more do not fit.
  absl::Status CheckRoom(int64_t bytes) const;
  // Requires room.
  absl::StatusOr<Lease> Take(int64_t bytes);
  void Give(Lease lease);
  // `stream` may write to the buffer from here on.
  absl::Status WaitFor(Stream stream, const Lease& lease) const;

 private:
  absl::Status DropOldest();

  Device& device_;
  const int64_t budget_;
  const absl::Duration patience_;
  int64_t taken_ = 0;
  int64_t kept_ = 0;
  std::list<Lease> free_;  // The longest unused first.
};

// Every rank must make the same calls in the same order; one thread at a time.
class WeightShards {
 public:
  // All references must outlive it. With another stage it is empty.
  WeightShards(const OptimizerOptions& options, const Plan& plan,
               ParamStore& store, Device& device, const RankGroups& groups);

  absl::Status Allocate();

  // This rank's segment of `bucket`, of its dtype.
  void* segment(int bucket) const { return shards_[bucket].get(); }
  // The segment is as it shall be once `event` has passed.
  void SetUpdated(int bucket, Event event) {
    updated_[bucket] = std::move(event);
  }

  // Keeps the rows of `tensor` that this rank owns. Done at once.
  void TakeRows(int param, const void* tensor);

  // InvalidArgument if nothing is in `group`, ResourceExhausted if it does not
  // fit the budget: on every rank alike, and nothing has happened.
  absl::Status CheckGather(int group);
  // See Optimizer. Requires CheckGather(); any error breaks the step.
  absl::Status Gather(int group, GatherPass pass);
  // `reader`: the stream whose queued work is the last to read the tensors;
  // they live until it is done, whatever becomes of this object.
  absl::Status Release(int group, Stream reader);
  absl::Status ReleaseAll();

  // The point from which the tensors of the group are there; null if it is not
  // gathered.
  Event gathered(int group) const;
  // Those points of all groups that are gathered, prefetched ones too.
  void AddGathers(std::vector<Event>* events) const;

 private:
  struct Group {
    std::vector<int> buckets;
    int64_t bytes = 0;  // What gathering takes at most.
    bool gathered = false;
    std::vector<GatherPool::Lease> leases;
    Event done;
  };

  int64_t FullBytes(int bucket) const;
  int64_t TensorBytes(int param) const;
  absl::StatusOr<Group*> Find(int group);
  absl::Status Start(Group& group);
  absl::StatusOr<Event> GatherBucket(int bucket, Group& group);
  absl::Status UnpackBucket(int bucket, GatherPool::Lease wire, Group& group);
  absl::Status Prefetch(int group, GatherPass pass);

  const OptimizerOptions& options_;
  const Plan& plan_;
  ParamStore& store_;
  Device& device_;
  const RankGroups& groups_;
  GatherPool pool_;
  std::vector<Buffer> shards_;  // Per bucket.
  std::vector<Event> updated_;  // Per bucket.
  std::map<int, Group> by_id_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_WEIGHT_SHARDS_H_
