#include "shard/layout_cost.h"

#include <algorithm>

namespace zeromini {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

// Of gradients into a buffer, and of weights out of one.
int64_t CopiedBytes(const BucketPlan& bucket, const PlanOptions& options) {
  const bool flat = options.memory == MemoryForm::kFlat;
  const bool home = bucket.in_place() && HasGradientHome(options, bucket.dtype);
  const int64_t gradients = home ? 0 : bucket.wire_elements * kFloatBytes;
  const bool moves_weights = options.ranks > 1 || KeepsWeightShards(options);
  const bool in_place = bucket.in_place() && flat;
  const int64_t weights =
      in_place || !moves_weights ? 0 : bucket.elements * SizeOf(bucket.dtype);
  return gradients + weights;
}

}  // namespace

std::vector<char> KeepsGradients(const Plan& plan) {
  std::vector<char> keeps(plan.regions.size(), 0);
  const auto note = [&](int region) {
    keeps[region] = HasGradientHome(plan.options, plan.regions[region].dtype);
  };
  for (const PlannedParam& param : plan.params) {
    if (param.region >= 0 && param.sharers.size() == 1) note(param.region);
  }
  for (const BucketPlan& bucket : plan.buckets) {
    if (bucket.in_place()) note(bucket.region);
  }
  return keeps;
}

int64_t LargestBuffered(const PlanOptions& options) {
  return BufferBudget(options.buffer_budget_bytes) / 2 / kFloatBytes;
}

int64_t BufferedElements(const BucketPlan& bucket, const PlanOptions& options) {
  if (bucket.in_place() && HasGradientHome(options, bucket.dtype)) return 0;
  return std::max(bucket.segment, bucket.wire_segment) * options.ranks;
}

double CostOf(const BucketPlan& bucket, const PlanOptions& options) {
  const auto others = static_cast<double>(options.ranks - 1);
  const double wire =
      others * static_cast<double>(bucket.wire_segment * kFloatBytes +
                                   bucket.segment * SizeOf(bucket.dtype));
  constexpr int kCollectives = 2;
  return wire +
         options.copy_cost * static_cast<double>(CopiedBytes(bucket, options)) +
         kCollectives * static_cast<double>(options.collective_cost_bytes);
}

}  // namespace zeromini
