#include "shard/layout_cost.h"

#include <algorithm>

namespace zeromini {
namespace {

constexpr int64_t kFloatBytes = sizeof(float);

template <typename Options>
bool HasHome(const Options& options, DType dtype) {
  return options.stage == 1 && options.memory == MemoryForm::kFlat &&
         dtype == DType::kFloat32;
}

// Of gradients into a buffer, and of weights out of one.
int64_t CopiedBytes(const BucketPlan& bucket, const PlanOptions& options) {
  const bool flat = options.memory == MemoryForm::kFlat;
  const bool home = bucket.in_place() && HasGradientHome(options, bucket.dtype);
  const int64_t gradients = home ? 0 : bucket.wire_elements * kFloatBytes;
  const bool moves_weights = options.ranks > 1 || options.stage == 3;
  const bool in_place = bucket.in_place() && flat;
  const int64_t weights =
      in_place || !moves_weights ? 0 : bucket.elements * SizeOf(bucket.dtype);
  return gradients + weights;
}

}  // namespace

bool HasGradientHome(const PlanOptions& options, DType dtype) {
  return HasHome(options, dtype);
}

bool HasGradientHome(const OptimizerOptions& options, DType dtype) {
  return HasHome(options, dtype);
}

bool KeepsGradients(const Plan& plan, int region) {
  if (!HasGradientHome(plan.options, plan.regions[region].dtype)) return false;
  return std::any_of(plan.params.begin(), plan.params.end(),
                     [&](const PlannedParam& param) {
                       return param.region == region &&
                              param.sharers.size() == 1;
                     }) ||
         std::any_of(
             plan.buckets.begin(), plan.buckets.end(),
             [&](const BucketPlan& bucket) { return bucket.region == region; });
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
