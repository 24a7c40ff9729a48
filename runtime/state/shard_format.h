// ShardFormat: what one parameter's weights and state are stored as on the rank
// that owns them.

#ifndef ZEROMINI_RUNTIME_STATE_SHARD_FORMAT_H_
#define ZEROMINI_RUNTIME_STATE_SHARD_FORMAT_H_

#include <cstdint>

#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

struct ShardFormat {
  DType weights = DType::kFloat32;
  MasterFormat master = MasterFormat::kNone;
  StateFormat state = StateFormat::kFloat32;  // Momentum, and v per element.

  // All fp32: a kernel may work on the shard itself.
  bool plain() const {
    return weights == DType::kFloat32 && state == StateFormat::kFloat32;
  }
};

ShardFormat FormatOf(const PlannedParam& param,
                     const OptimizerOptions& options);

// True if any parameter with state has a format that is not plain.
bool HasCodedShards(const Plan& plan, const OptimizerOptions& options);

// Bytes per element, scales left out.
int64_t MasterBytes(MasterFormat format);
int64_t StateBytes(StateFormat format);

// Scales of one row.
int64_t ScalesPerRow(StateFormat format, int64_t row_elements);

// The seed of a stochastic rounding: what is rounded, of which parameter, at
// which of its updates. It depends on nothing else, so no rank or number of
// ranks changes it.
enum class Rounded { kWeights, kMomentum, kSecondMoment };
uint64_t RoundingSeed(Rounded what, int param, int64_t step);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_SHARD_FORMAT_H_
