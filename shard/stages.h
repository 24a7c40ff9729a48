// What ZeRO's stages mean, in one place: nobody else asks for the number.

#ifndef ZEROMINI_SHARD_STAGES_H_
#define ZEROMINI_SHARD_STAGES_H_

#include "zeromini/options.h"

namespace zeromini {

// Full gradients stay until Step() and travel once; otherwise each micro-step's
// travel at once, and only shards of their sum stay.
inline bool KeepsFullGradients(const OptimizerOptions& options) {
  return options.stage == 1;
}

// Weights rest in shards, not whole on every rank.
inline bool KeepsWeightShards(const OptimizerOptions& options) {
  return options.stage == 3;
}

// Exchanges of gradients per bucket and step.
inline int GradExchanges(const OptimizerOptions& options) {
  return KeepsFullGradients(options) ? 1 : options.micro_steps;
}

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_STAGES_H_
