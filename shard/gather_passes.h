// What stage 3 holds of gathered weights over a trainer's passes.

#ifndef ZEROMINI_SHARD_GATHER_PASSES_H_
#define ZEROMINI_SHARD_GATHER_PASSES_H_

#include <cstdint>

#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Of stage 3; 0 otherwise. Passes as MemoryOf() says.
struct GatheredBytes {
  int64_t left = 0;  // After a step.
  int64_t most = 0;  // At any time.
};
GatheredBytes GatheredInPasses(const Plan& plan,
                               const OptimizerOptions& options);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_GATHER_PASSES_H_
