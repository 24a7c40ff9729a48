#include "runtime/state/weight_home.h"

#include <algorithm>
#include <utility>

#include "runtime/state/sharded_weights.h"
#include "runtime/state/whole_weights.h"
#include "shard/stages.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// From `data` of the caller's, which may be the host's.
absl::Status AdoptInitial(const void* data, int param,
                          const HomeContext& context, WeightHome& home) {
  Device& device = context.device;
  if (device.Reads(data)) return home.Adopt(param, data);
  const int64_t bytes = TensorBytes(context.plan.params[param]);
  ZEROMINI_ASSIGN_OR_RETURN(Buffer there,
                            device.Allocate(bytes, MemoryKind::kBuckets));
  ZEROMINI_RETURN_IF_ERROR(device.Copy(data, there.get(), bytes, Stream{}));
  return home.Adopt(param, there.get());
}

}  // namespace

bool Moves::Any(const BucketPlan& bucket) const {
  return std::any_of(bucket.parts.begin(), bucket.parts.end(),
                     [this](const Part& part) { return may[part.param] != 0; });
}

absl::StatusOr<std::unique_ptr<WeightHome>> MakeWeightHome(
    const HomeContext& context, absl::Span<const ParamSpec> specs) {
  const Plan& plan = context.plan;
  ZEROMINI_ASSIGN_OR_RETURN(
      ParamStore store,
      ParamStore::Create(plan, specs, context.options, context.device));
  if (!KeepsWeightShards(context.options)) {
    return std::make_unique<WholeWeights>(context, std::move(store));
  }
  ZEROMINI_ASSIGN_OR_RETURN(std::unique_ptr<WeightHome> home,
                            ShardedWeights::Create(context, std::move(store)));
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const int param = static_cast<int>(p);
    if (!plan.params[p].has_state()) continue;
    const void* data = InitialWeights(plan, specs, param);
    if (data == nullptr) continue;
    ZEROMINI_RETURN_IF_ERROR(AdoptInitial(data, param, context, *home));
  }
  return home;
}

}  // namespace zeromini
