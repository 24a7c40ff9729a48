// ShardFormat: what one parameter's weights and state are stored as on the rank
// that owns them.

#ifndef ZEROMINI_SHARD_SHARD_FORMAT_H_
#define ZEROMINI_SHARD_SHARD_FORMAT_H_

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

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_SHARD_FORMAT_H_
