// ShardFormat: what one parameter's weights and state are stored as on the rank
// that owns them.

#ifndef ZEROMINI_RUNTIME_STATE_SHARD_FORMAT_H_
#define ZEROMINI_RUNTIME_STATE_SHARD_FORMAT_H_

#include <cstdint>

#include "absl/strings/string_view.h"
#include "zeromini/internal/format_bytes.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

struct ShardFormat {
  DType weights = DType::kFloat32;
  MasterFormat master = MasterFormat::kNone;
  StateFormat state = StateFormat::kFloat32;  // Momentum, and v per element.

  // All fp32: a kernel may work on the weights, or their master, itself.
  bool plain() const {
    return weights == DType::kFloat32 && state == StateFormat::kFloat32;
  }
  // fp32 weights that are rounded on their way: their master is what is
  // updated, and what travels.
  bool master_is_segment() const {
    return weights == DType::kFloat32 && master == MasterFormat::kFloat32;
  }
};

ShardFormat FormatOf(const PlannedParam& param,
                     const OptimizerOptions& options);

// True if any parameter with state has a format that is not plain.
bool HasCodedShards(const Plan& plan, const OptimizerOptions& options);

// ShardFormat::master_is_segment() of the parameters of `bucket`, which have
// one dtype.
bool MasterIsSegment(const Plan& plan, int bucket,
                     const OptimizerOptions& options);

// The seed of a stochastic rounding: what is rounded, of which parameter. The
// kernels add at which of its updates. It depends on nothing else, so no rank,
// number of ranks or order of parameters changes it.
enum class Rounded { kWeights, kMomentum, kSecondMoment };
uint64_t RoundingSeed(Rounded what, absl::string_view param_name);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_SHARD_FORMAT_H_
