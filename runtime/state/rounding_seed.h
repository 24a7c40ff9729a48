// The seed of a stochastic rounding: what is rounded, of which parameter. The
// kernels add at which of its updates. It depends on nothing else, so no rank,
// number of ranks or order of parameters changes it.

#ifndef ZEROMINI_RUNTIME_STATE_ROUNDING_SEED_H_
#define ZEROMINI_RUNTIME_STATE_ROUNDING_SEED_H_

#include <cstdint>

#include "absl/strings/string_view.h"

namespace zeromini {

enum class Rounded { kWeights, kMomentum, kSecondMoment };
uint64_t RoundingSeed(Rounded what, absl::string_view param_name);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_ROUNDING_SEED_H_
