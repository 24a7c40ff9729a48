// Bucket grouping: which parameters one collective moves together.

#ifndef ZEROMINI_SHARD_BUCKET_GROUPING_H_
#define ZEROMINI_SHARD_BUCKET_GROUPING_H_

#include <vector>

#include "shard/bucket_layout.h"
#include "zeromini/plan.h"

namespace zeromini {

// Indices of live parameters, bucket by bucket, both in the given order. A
// bucket is one layer (at stage 3 one layer set), cut at tensor edges where
// options.bucket_bytes is exceeded; two layers where one would split blocks or
// pad more than 0.25 % and two do better. Parameters of no layer stand alone,
// or join a neighbouring layer if they are small beside it.
std::vector<std::vector<int>> GroupIntoBuckets(
    const std::vector<PlannedParam>& params, const PlanOptions& options,
    LayoutCache& layouts);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_BUCKET_GROUPING_H_
