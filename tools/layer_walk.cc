#include "tools/layer_walk.h"

#include <algorithm>
#include <map>

#include "zeromini/internal/status_macros.h"
#include "zeromini/plan_bytes.h"

namespace zeromini::tools {
namespace {

int64_t GatherBudgetOf(const Plan& plan) {
  std::map<int, int64_t> bytes_of;
  for (const BucketPlan& bucket : plan.buckets) {
    bytes_of[bucket.layer_set] = GatherBytes(plan, bucket.layer_set);
  }
  std::vector<int64_t> layers;
  for (const auto& [layer_set, bytes] : bytes_of) {
    if (layer_set >= 0) layers.push_back(bytes);
  }
  std::sort(layers.rbegin(), layers.rend());
  int64_t budget = bytes_of.count(kNoLayerSet) > 0 ? bytes_of[kNoLayerSet] : 0;
  for (size_t i = 0; i < std::min<size_t>(2, layers.size()); ++i) {
    budget += layers[i];
  }
  return budget;
}

}  // namespace

absl::Status LayerWalk::Enter(int param, GatherPass pass) {
  const Plan& plan = optimizer_.plan();
  const PlannedParam& planned = plan.params[param];
  if (planned.frozen) return absl::OkStatus();
  if (plan.options.stage != 3) {
    return pass == GatherPass::kForward ? optimizer_.WaitParam(param)
                                        : absl::OkStatus();
  }
  if (planned.layer_set != layer_set_ && layer_set_ != kNoLayerSet) {
    ZEROMINI_RETURN_IF_ERROR(optimizer_.Release(layer_set_));
  }
  layer_set_ = planned.layer_set;
  ZEROMINI_RETURN_IF_ERROR(optimizer_.Gather(planned.layer_set, pass));
  return optimizer_.WaitParam(param);
}

absl::StatusOr<int64_t> GatherBudget(const std::vector<ParamSpec>& params,
                                     const OptimizerOptions& options,
                                     int ranks) {
  if (options.stage != 3) return 0;
  ZEROMINI_ASSIGN_OR_RETURN(const Plan plan, PlanFor(params, options, ranks));
  return GatherBudgetOf(plan);
}

}  // namespace zeromini::tools
