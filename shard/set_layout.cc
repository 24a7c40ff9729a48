#include "shard/set_layout.h"

#include <algorithm>
#include <limits>
#include <map>
#include <utility>

#include "shard/layout_cost.h"
#include "shard/units.h"

namespace zeromini {

namespace {

// So that what can leave only when backward has ended is a small share.
constexpr int64_t kShares = 32;
// To start a collective then takes no more than a 16th of its time, and a
// message to each of the other ranks is not smaller than this.
constexpr int64_t kCollectivesWorth = 16;
constexpr int64_t kLeastPerRank = 64 << 10;
// Buffers that can be filling, or travel, at a time.
constexpr int64_t kBuffers = 8;

}  // namespace

int64_t ParamSet::elements() const {
  int64_t sum = 0;
  for (int index : indices) sum += Elements(params[index]);
  return sum;
}

int64_t BucketSizes::ElementsFor(int64_t alike) const {
  return std::min(std::max(alike / shares, least), most);
}

BucketSizes SizesOf(const ParamSet& set, const PlanOptions& options) {
  constexpr int64_t kFloatBytes = sizeof(float);
  constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();
  BucketSizes sizes;
  sizes.shares = kShares;
  sizes.least = std::max(kCollectivesWorth * options.collective_cost_bytes,
                         kLeastPerRank * options.ranks) /
                kFloatBytes;
  sizes.most = kUnbounded;
  if (options.bucket_bytes > 0) {
    sizes.least = sizes.most =
        std::max<int64_t>(options.bucket_bytes / kFloatBytes, 1);
  }
  const int64_t budget = BufferBudget(options.buffer_budget_bytes);
  const int64_t most_buffered =
      std::max<int64_t>(budget / kBuffers / kFloatBytes, 1);
  const DType dtype = set.params[set.indices.front()].dtype;
  if (!HasGradientHome(options, dtype)) {
    sizes.most = std::min(sizes.most, most_buffered);
  }
  sizes.buffered = std::min(sizes.ElementsFor(set.elements()), most_buffered);
  return sizes;
}

int SetLayout::AddRegion(int64_t elements) {
  RegionPlan region;
  region.elements = elements;
  regions.push_back(region);
  return static_cast<int>(regions.size()) - 1;
}

void SetLayout::AddBucket(const BucketLayout& layout,
                          absl::Span<const int> indices) {
  BucketPlan bucket = layout.plan;
  for (Part& part : bucket.parts) part.param = indices[part.param];
  for (std::vector<Run>& runs : bucket.runs) {
    for (Run& run : runs) run.param = indices[run.param];
  }
  for (const SplitBlock& split : layout.splits) {
    splits.push_back({indices[split.param], split.block});
  }
  std::sort(bucket.parts.begin(), bucket.parts.end(),
            [](const Part& a, const Part& b) { return a.param < b.param; });
  buckets.push_back(std::move(bucket));
}

void SetLayout::Append(SetLayout other) {
  const int first = static_cast<int>(regions.size());
  for (BucketPlan& bucket : other.buckets) {
    if (bucket.in_place()) bucket.region += first;
    buckets.push_back(std::move(bucket));
  }
  for (Home home : other.homes) {
    home.region += first;
    homes.push_back(home);
  }
  regions.insert(regions.end(), other.regions.begin(), other.regions.end());
  splits.insert(splits.end(), other.splits.begin(), other.splits.end());
}

bool FitsBuffers(const SetLayout& layout, const PlanOptions& options) {
  const int64_t most = LargestBuffered(options);
  return std::all_of(layout.buckets.begin(), layout.buckets.end(),
                     [&](const BucketPlan& bucket) {
                       return BufferedElements(bucket, options) <= most;
                     });
}

namespace {

// In elements on the wire.
int64_t ExposedElements(const SetLayout& layout, const ParamSet& set) {
  std::map<int, int64_t> ready;  // By parameter: backward so far.
  int64_t backward = 0;
  for (auto p = set.indices.rbegin(); p != set.indices.rend(); ++p) {
    backward += Elements(set.params[*p]);
    ready[*p] = backward;
  }
  // By when it is ready.
  std::vector<std::pair<int64_t, int64_t>> buckets;
  for (const BucketPlan& bucket : layout.buckets) {
    buckets.emplace_back(ready.at(bucket.parts.front().param),
                         bucket.wire_elements);
  }
  std::sort(buckets.begin(), buckets.end());
  int64_t sent = 0;
  for (const auto& [from, elements] : buckets) {
    sent = std::max(sent, from) + elements;
  }
  return std::max<int64_t>(sent - backward, 0);
}

}  // namespace

double CostOf(const SetLayout& layout, const ParamSet& set,
              const PlanOptions& options) {
  double cost = 0;
  for (const BucketPlan& bucket : layout.buckets) {
    cost += CostOf(bucket, options);
  }
  const int64_t exposed = options.ranks > 1 ? ExposedElements(layout, set) : 0;
  return cost + static_cast<double>(exposed * SizeOf(DType::kFloat32));
}

}  // namespace zeromini
