#include "shard/exchange_places.h"

#include <algorithm>
#include <functional>

#include "shard/layout_cost.h"
#include "shard/shard_format.h"
#include "shard/stages.h"

namespace zeromini {
namespace {

bool LiesInFlatMemory(const BucketPlan& bucket,
                      const OptimizerOptions& options) {
  return options.memory == MemoryForm::kFlat && bucket.in_place();
}

bool HasTransposed(const Plan& plan, const BucketPlan& bucket) {
  return std::any_of(
      bucket.parts.begin(), bucket.parts.end(),
      [&](const Part& part) { return plan.params[part.param].transposed; });
}

}  // namespace

bool Projects(const BucketPlan& bucket) {
  return bucket.wire_segment != bucket.segment ||
         bucket.wire_elements != bucket.elements;
}

std::vector<int> BucketsAsTheyLeave(const PlannedParam& param) {
  std::vector<int> buckets = param.buckets;
  std::sort(buckets.begin(), buckets.end(), std::greater<int>());
  return buckets;
}

GradientPlace PlaceOfGradients(const BucketPlan& bucket,
                               const OptimizerOptions& options) {
  if (!KeepsFullGradients(options)) return GradientPlace::kBuffer;
  const bool at_home = HasGradientHome(options, bucket.dtype) &&
                       bucket.in_place() && !Projects(bucket);
  if (at_home) return GradientPlace::kHome;
  return options.micro_steps == 1 ? GradientPlace::kBuffer
                                  : GradientPlace::kKept;
}

int64_t GradientSegmentBytes(const BucketPlan& bucket) {
  return std::max(bucket.segment, bucket.wire_segment) * int64_t{sizeof(float)};
}

bool WeightsNeedBuffer(const Plan& plan, int bucket,
                       const OptimizerOptions& options) {
  const BucketPlan& layout = plan.buckets[bucket];
  if (KeepsWeightShards(options) || LiesInFlatMemory(layout, options)) {
    return false;
  }
  return plan.options.ranks > 1 || MasterIsSegment(plan, bucket, options) ||
         HasTransposed(plan, layout);
}

}  // namespace zeromini
