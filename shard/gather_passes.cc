#include "shard/gather_passes.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <set>
#include <vector>

#include "shard/stages.h"

namespace zeromini {
namespace {

// LeasePool's rules: the longest unused of equal size is reused, and dropped to
// make room.
class PoolModel {
 public:
  explicit PoolModel(int64_t budget) : budget_(budget) {}

  bool HasRoom(int64_t bytes) const {
    return budget_ == 0 || taken_ + bytes <= budget_;
  }

  void Take(int64_t bytes) {
    taken_ += bytes;
    const auto free = std::find(free_.begin(), free_.end(), bytes);
    if (free != free_.end()) {
      kept_ -= bytes;
      free_.erase(free);
      return;
    }
    while (budget_ > 0 && !free_.empty() && taken_ + kept_ > budget_) {
      kept_ -= free_.front();
      free_.erase(free_.begin());
    }
    most_ = std::max(most_, taken_ + kept_);
  }

  void Give(int64_t bytes) {
    taken_ -= bytes;
    kept_ += bytes;
    free_.push_back(bytes);
  }

  GatheredBytes bytes() const { return {taken_ + kept_, most_}; }

 private:
  const int64_t budget_;
  int64_t taken_ = 0;
  int64_t kept_ = 0;
  int64_t most_ = 0;
  std::vector<int64_t> free_;  // The longest unused first.
};

// Bytes that gathering a layer set leases.
struct Set {
  std::vector<int64_t> regions;  // Held until it is released.
  std::vector<int64_t> wires;    // One after another, until it is unpacked.
  int64_t bytes = 0;             // What there must be room for.
};

std::map<int, Set> SetsOf(const Plan& plan) {
  std::map<int, Set> sets;
  for (const RegionPlan& region : plan.regions) {
    sets[region.layer_set].regions.push_back(region.elements *
                                             SizeOf(region.dtype));
  }
  for (const BucketPlan& bucket : plan.buckets) {
    if (bucket.in_place()) continue;
    sets[bucket.layer_set].wires.push_back(bucket.segment * plan.options.ranks *
                                           SizeOf(bucket.dtype));
  }
  for (auto& [id, set] : sets) set.bytes = GatherBytes(plan, id);
  return sets;
}

// ShardedWeights' rules.
class Passes {
 public:
  Passes(const Plan& plan, const OptimizerOptions& options)
      : sets_(SetsOf(plan)),
        prefetch_(options.prefetch),
        pool_(options.gather_budget_bytes) {}

  void Step() {
    const auto first = sets_.lower_bound(0);  // Of the layers.
    for (auto set = sets_.begin(); set != first; ++set) Start(set);
    for (auto set = first; set != sets_.end(); ++set) {
      if (set != first) Release(std::prev(set));
      Start(set);
      auto next = set;
      for (int i = 0; i < prefetch_ && ++next != sets_.end(); ++i) {
        if (!Prefetch(next)) break;
      }
    }
    for (auto set = sets_.end(); set != first;) {
      if (set != sets_.end()) Release(set);
      Start(--set);
      auto next = set;
      for (int i = 0; i < prefetch_ && next != first; ++i) {
        if (!Prefetch(--next)) break;
      }
    }
    for (auto set = sets_.begin(); set != sets_.end(); ++set) Release(set);
  }

  GatheredBytes bytes() const { return pool_.bytes(); }

 private:
  using At = std::map<int, Set>::iterator;

  bool Prefetch(At set) {
    if (held_.count(set->first) == 0 && !pool_.HasRoom(set->second.bytes)) {
      return false;
    }
    Start(set);
    return true;
  }

  void Start(At set) {
    if (!held_.insert(set->first).second) return;
    for (const int64_t bytes : set->second.regions) pool_.Take(bytes);
    for (const int64_t bytes : set->second.wires) {
      pool_.Take(bytes);
      pool_.Give(bytes);
    }
  }

  void Release(At set) {
    if (held_.erase(set->first) == 0) return;
    for (const int64_t bytes : set->second.regions) pool_.Give(bytes);
  }

  std::map<int, Set> sets_;
  const int prefetch_;
  PoolModel pool_;
  std::set<int> held_;  // Layer sets that are gathered.
};

}  // namespace

GatheredBytes GatheredInPasses(const Plan& plan,
                               const OptimizerOptions& options) {
  if (!KeepsWeightShards(options)) return {};
  Passes passes(plan, options);
  // The second step starts with what the first has left.
  passes.Step();
  passes.Step();
  return passes.bytes();
}

}  // namespace zeromini
