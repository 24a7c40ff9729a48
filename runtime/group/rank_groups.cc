#include "runtime/group/rank_groups.h"

#include <utility>

#include "runtime/options/plan_inputs.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::Status RankGroups::Init(Communicator& world,
                              const OptimizerOptions& options) {
  world_ = &world;
  slices_ = options.expert_slices;
  ZEROMINI_ASSIGN_OR_RETURN(const int shards,
                            ShardRanks(options, world.size()));
  ZEROMINI_RETURN_IF_ERROR(
      SplitFamily(0, world.rank(), world.size(), shards, &dense_));
  if (slices_ == 1) {
    experts_ = dense_;
    return absl::OkStatus();
  }
  return SplitFamily(world.rank() % slices_, world.rank() / slices_,
                     world.size() / slices_, shards, &experts_);
}

absl::Status RankGroups::SplitFamily(int slice, int position, int members,
                                     int shards, Family* family) {
  family->slice = slice;
  family->replica = position / shards;
  family->shards = world_;
  if (shards == world_->size()) return absl::OkStatus();
  const int copies = members / shards;
  ZEROMINI_ASSIGN_OR_RETURN(
      auto split, world_->Split(slice * copies + family->replica, position));
  family->shards = split.get();
  owned_.push_back(std::move(split));
  if (copies == 1) return absl::OkStatus();
  ZEROMINI_ASSIGN_OR_RETURN(
      auto across, world_->Split(slice * shards + position % shards, position));
  family->replicas = across.get();
  owned_.push_back(std::move(across));
  return absl::OkStatus();
}

absl::Status RankGroups::Close() {
  for (const auto& group : owned_) ZEROMINI_RETURN_IF_ERROR(group->Close());
  return absl::OkStatus();
}

void RankGroups::Abort(const absl::Status& why) {
  for (const auto& group : owned_) group->Abort(why);
  world_->Abort(why);
}

}  // namespace zeromini
