// What ZeRO's stages mean, in one place: nobody else asks for the number.

#ifndef ZEROMINI_SHARD_STAGES_H_
#define ZEROMINI_SHARD_STAGES_H_

#include "zeromini/options.h"

namespace zeromini {

// `options`: OptimizerOptions, or the PlanOptions made of them.

// Full gradients stay until Step() and travel once; otherwise each micro-step's
// travel at once, and only shards of their sum stay.
template <typename Options>
bool KeepsFullGradients(const Options& options) {
  return options.stage == 1;
}

// Weights rest in shards, not whole on every rank.
template <typename Options>
bool KeepsWeightShards(const Options& options) {
  return options.stage == 3;
}

// Exchanges of gradients per bucket and step.
inline int GradExchanges(const OptimizerOptions& options) {
  return KeepsFullGradients(options) ? 1 : options.micro_steps;
}

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_STAGES_H_
