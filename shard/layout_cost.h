// LayoutCost: what a bucket costs in a step, in bytes on the wire.

#ifndef ZEROMINI_SHARD_LAYOUT_COST_H_
#define ZEROMINI_SHARD_LAYOUT_COST_H_

#include <cstdint>
#include <vector>

#include "shard/stages.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Sums and products of what a plan weighs stay exact in 64 bits.
inline constexpr int64_t kMostLayoutBytes = int64_t{1} << 50;
inline constexpr double kMostCopyCost = 1e6;

// `option`: PlanOptions::buffer_budget_bytes.
inline int64_t BufferBudget(int64_t option) {
  return option == 0 ? kDefaultBufferBudget : option;
}

// Full gradients of this dtype lie where an exchange in place can take them.
// `options` as in shard/stages.h.
template <typename Options>
bool HasGradientHome(const Options& options, DType dtype) {
  return KeepsFullGradients(options) && options.memory == MemoryForm::kFlat &&
         dtype == DType::kFloat32;
}

// By region: its full gradients have a use, as somebody's home or an
// exchange's.
std::vector<char> KeepsGradients(const Plan& plan);

// Elements of the largest bucket whose gradients go through a buffer: half of
// the budget, so that one can travel while the next fills.
int64_t LargestBuffered(const PlanOptions& options);

// The bucket's gradients go through a buffer of as many elements, or 0.
int64_t BufferedElements(const BucketPlan& bucket, const PlanOptions& options);

double CostOf(const BucketPlan& bucket, const PlanOptions& options);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_LAYOUT_COST_H_
