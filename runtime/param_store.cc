#include "runtime/param_store.h"

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "runtime/row_packing.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

int64_t Elements(const PlannedParam& param) {
  return param.rows * param.row_elements;
}

absl::Status CheckExternal(const Plan& plan,
                           absl::Span<const ParamSpec> specs) {
  std::vector<std::tuple<uintptr_t, uintptr_t, int>> ranges;
  for (size_t i = 0; i < specs.size(); ++i) {
    const PlannedParam& param = plan.params[i];
    if (param.tied_to >= 0) {
      const void* owner = specs[param.tied_to].data;
      if (specs[i].data == nullptr || specs[i].data == owner) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", param.name, "' is tied to '",
                       specs[i].tied_to, "' but its data is elsewhere"));
    }
    if (specs[i].data == nullptr) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", param.name,
                       "' has no data; external memory needs a pointer"));
    }
    const auto begin = reinterpret_cast<uintptr_t>(specs[i].data);
    const uintptr_t width = static_cast<uintptr_t>(SizeOf(param.dtype));
    if (begin % width != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", param.name,
                       "': its data is not aligned to ", width, " bytes"));
    }
    ranges.emplace_back(begin,
                        begin + static_cast<uintptr_t>(Elements(param)) * width,
                        static_cast<int>(i));
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    const auto [unused_begin, end, first] = ranges[i - 1];
    const auto [begin, unused_end, second] = ranges[i];
    if (begin >= end) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "parameters '", plan.params[first].name, "' and '",
        plan.params[second].name,
        "' overlap in memory; if they are tied, say so in tied_to"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ParamStore::AllocateBucket(const Plan& plan, int bucket, int stage,
                                        Device& device) {
  const BucketPlan& layout = plan.buckets[bucket];
  const int64_t elements = layout.segment * plan.options.ranks;
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer weights,
      device.Allocate(elements * SizeOf(layout.dtype), MemoryKind::kWeights));
  flat_weights_[bucket] = weights.get();
  owned_.push_back(std::move(weights));
  const bool gradients = stage == 1 && layout.dtype == DType::kFloat32;
  if (gradients) {
    ZEROMINI_ASSIGN_OR_RETURN(Buffer memory,
                              device.Allocate(elements * int64_t{sizeof(float)},
                                              MemoryKind::kGradients));
    flat_gradients_[bucket] = Floats(memory);
    owned_.push_back(std::move(memory));
  }
  for (size_t i = 0; i < layout.params.size(); ++i) {
    const int param = layout.params[i];
    weights_[param] =
        ElementAt(flat_weights_[bucket], layout.param_offset[i], layout.dtype);
    if (gradients) {
      gradients_[param] = flat_gradients_[bucket] + layout.param_offset[i];
    }
  }
  return absl::OkStatus();
}

absl::Status ParamStore::AllocateAlone(const PlannedParam& param, int index,
                                       int stage, Device& device) {
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer weights, device.Allocate(Elements(param) * SizeOf(param.dtype),
                                      MemoryKind::kWeights));
  weights_[index] = weights.get();
  owned_.push_back(std::move(weights));
  if (stage != 1 || param.frozen || param.dtype != DType::kFloat32) {
    return absl::OkStatus();
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer gradients,
      device.Allocate(Elements(param) * int64_t{sizeof(float)},
                      MemoryKind::kGradients));
  gradients_[index] = Floats(gradients);
  owned_.push_back(std::move(gradients));
  return absl::OkStatus();
}

absl::StatusOr<ParamStore> ParamStore::Create(const Plan& plan,
                                              absl::Span<const ParamSpec> specs,
                                              const OptimizerOptions& options,
                                              Device& device) {
  ParamStore store;
  store.weights_.resize(plan.params.size(), nullptr);
  store.gradients_.resize(plan.params.size(), nullptr);
  store.flat_weights_.resize(plan.buckets.size(), nullptr);
  store.flat_gradients_.resize(plan.buckets.size(), nullptr);
  if (options.memory == MemoryForm::kExternal) {
    ZEROMINI_RETURN_IF_ERROR(CheckExternal(plan, specs));
    for (size_t i = 0; i < specs.size(); ++i) {
      const int tied = plan.params[i].tied_to;
      store.weights_[i] = specs[tied >= 0 ? tied : int(i)].data;
    }
    return store;
  }
  const bool sharded = options.stage == 3;
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    if (!plan.buckets[b].in_place || sharded) continue;
    ZEROMINI_RETURN_IF_ERROR(
        store.AllocateBucket(plan, int(b), options.stage, device));
  }
  for (size_t i = 0; i < plan.params.size(); ++i) {
    const PlannedParam& param = plan.params[i];
    if (param.tied_to >= 0) {
      store.weights_[i] = store.weights_[param.tied_to];
      store.gradients_[i] = store.gradients_[param.tied_to];
    } else if (store.weights_[i] == nullptr && !(sharded && !param.frozen)) {
      ZEROMINI_RETURN_IF_ERROR(
          store.AllocateAlone(param, int(i), options.stage, device));
    }
  }
  return store;
}

}  // namespace zeromini
