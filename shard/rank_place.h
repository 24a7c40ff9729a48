// RankPlace: which of a plan's ranks one of the whole group is.

#ifndef ZEROMINI_SHARD_RANK_PLACE_H_
#define ZEROMINI_SHARD_RANK_PLACE_H_

#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Of tensors that are alike in `expert`.
struct RankPlace {
  int rank = 0;     // In the plan: of those that share a copy.
  int replica = 0;  // Which copy.
  int replicas = 1;
  int slice = 0;  // Which expert slice; 0 if dense.
};

// Experts' slices are dealt out in turn; copies are ranks in order. See
// OptimizerOptions::shard_ranks and expert_slices.
inline RankPlace PlaceOf(const PlanOptions& plan,
                         const OptimizerOptions& options, bool expert,
                         int rank) {
  const int slices = expert ? options.expert_slices : 1;
  const int position = rank / slices;
  return {position % plan.ranks, position / plan.ranks, plan.replicas / slices,
          rank % slices};
}

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_RANK_PLACE_H_
