// RankGroups: who shares a copy of the state with this rank, and who holds
// another copy of the same.

#ifndef ZEROMINI_RUNTIME_GROUP_RANK_GROUPS_H_
#define ZEROMINI_RUNTIME_GROUP_RANK_GROUPS_H_

#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "zeromini/communicator.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

class RankGroups {
 public:
  // What a bucket's exchanges run on. A group of one replica has no
  // `replicas`.
  struct Family {
    Communicator* shards = nullptr;    // This copy, by rank in the plan.
    Communicator* replicas = nullptr;  // The same shard of each copy.
    int replica = 0;                   // Which copy this rank is of.
    int slice = 0;                     // Which expert slice; 0 if dense.

    // Of all ranks that hold the same tensors, the one that they come from.
    bool first() const { return replica == 0 && shards->rank() == 0; }
  };

  // Collective, unless all ranks share one copy. InvalidArgument, with the
  // numbers, if the options do not divide the ranks. `world` must outlive it.
  absl::Status Init(Communicator& world, const OptimizerOptions& options);

  Communicator& world() const { return *world_; }
  const Family& of(bool expert) const { return expert ? experts_ : dense_; }
  const Family& of(const BucketPlan& bucket) const { return of(bucket.expert); }
  int slices() const { return slices_; }

  // Collective. Frees what Init() has made.
  absl::Status Close();

  // Breaks every group, the world too, so that ranks that wait in one of them
  // go on, with `why`.
  void Abort(const absl::Status& why);

 private:
  // `color` numbers the slice, `position` is this rank's place in it.
  absl::Status SplitFamily(int slice, int position, int members, int shards,
                           Family* family);

  Communicator* world_ = nullptr;
  int slices_ = 1;
  Family dense_;
  Family experts_;
  std::vector<std::unique_ptr<Communicator>> owned_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_GROUP_RANK_GROUPS_H_
