// StateGather: a parameter's full state from the shards of all ranks.

#ifndef ZEROMINI_RUNTIME_STATE_GATHER_H_
#define ZEROMINI_RUNTIME_STATE_GATHER_H_

#include "absl/status/statusor.h"
#include "runtime/bucket_shard.h"
#include "runtime/device.h"
#include "zeromini/communicator.h"
#include "zeromini/optimizer.h"
#include "zeromini/plan.h"

namespace zeromini {

// Collective. `shard` is this rank's of the parameter's bucket. Each rank sends
// its rows and blocks, padded to the most that any rank has.
absl::StatusOr<Optimizer::ParamState> GatherState(const Plan& plan, int param,
                                                  BucketShard& shard,
                                                  Communicator& group,
                                                  Device& device);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_GATHER_H_
