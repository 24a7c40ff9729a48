// Where a bucket lies while it travels: at home, in memory that is the tensors'
// own, or in a buffer that it is packed into.

#ifndef ZEROMINI_SHARD_EXCHANGE_PLACES_H_
#define ZEROMINI_SHARD_EXCHANGE_PLACES_H_

#include <cstdint>
#include <vector>

#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

enum class GradientPlace {
  kHome,    // The caller's own flat gradients.
  kKept,    // Memory of the bucket's, that keeps the sum of all micro-steps.
  kBuffer,  // An exchange buffer, from the first gradient to the exchange.
};

// Some method sends less than the gradient, in some steps at least.
bool Projects(const BucketPlan& bucket);

GradientPlace PlaceOfGradients(const BucketPlan& bucket,
                               const OptimizerOptions& options);

// A parameter's buckets in the order in which they leave.
std::vector<int> BucketsAsTheyLeave(const PlannedParam& param);

// Of one rank's part of a bucket that is not at home, in bytes: fp32, and with
// room for either form of a gradient that is projected.
int64_t GradientSegmentBytes(const BucketPlan& bucket);

// Whole weights of the bucket, which is number `bucket`, travel in a buffer,
// because they are not stored segment by segment. One rank needs one only for
// what has another form there: rounded, or with columns for rows.
bool WeightsNeedBuffer(const Plan& plan, int bucket,
                       const OptimizerOptions& options);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_EXCHANGE_PLACES_H_
