#include "shard/shard_format.h"

#include <algorithm>

#include "shard/stages.h"

namespace zeromini {

ShardFormat FormatOf(const PlannedParam& param,
                     const OptimizerOptions& options) {
  ShardFormat format;
  format.weights = param.dtype;
  const bool rounded_on_wire =
      !KeepsWeightShards(options) && options.weight_wire != DType::kFloat32;
  if (param.dtype != DType::kFloat32) {
    format.master = options.master;
  } else if (rounded_on_wire) {
    format.master = MasterFormat::kFloat32;
  }
  // A group's scale would cost more than its only element saves.
  const bool alone = param.row_elements == 1;
  format.state = alone && options.state == StateFormat::kInt8
                     ? StateFormat::kFloat32
                     : options.state;
  return format;
}

bool HasCodedShards(const Plan& plan, const OptimizerOptions& options) {
  return std::any_of(
      plan.params.begin(), plan.params.end(), [&](const PlannedParam& param) {
        return param.has_state() && !FormatOf(param, options).plain();
      });
}

bool MasterIsSegment(const Plan& plan, int bucket,
                     const OptimizerOptions& options) {
  const int first = plan.buckets[bucket].parts.front().param;
  return FormatOf(plan.params[first], options).master_is_segment();
}

}  // namespace zeromini
