#include "runtime/state/param_store.h"

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "runtime/device/row_packing.h"
#include "shard/layout_cost.h"
#include "shard/stages.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

absl::Status CheckAligned(const Plan& plan, absl::Span<const ParamSpec> specs) {
  for (size_t i = 0; i < specs.size(); ++i) {
    const PlannedParam& param = plan.params[i];
    const int64_t width = SizeOf(param.dtype);
    if (reinterpret_cast<uintptr_t>(specs[i].data) % width == 0) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("parameter '", param.name,
                     "': its data is not aligned to ", width, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckExternal(const Plan& plan,
                           absl::Span<const ParamSpec> specs) {
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
  }
  return absl::OkStatus();
}

// Of what the caller has given. Where flat memory takes the tensors' place,
// what overlapped would stop being one.
absl::Status CheckOverlap(const Plan& plan, absl::Span<const ParamSpec> specs) {
  std::vector<std::tuple<uintptr_t, uintptr_t, int>> ranges;
  for (size_t i = 0; i < specs.size(); ++i) {
    const PlannedParam& param = plan.params[i];
    const bool same =
        param.tied_to >= 0 && specs[i].data == specs[param.tied_to].data;
    if (same || specs[i].data == nullptr) continue;
    const auto begin = reinterpret_cast<uintptr_t>(specs[i].data);
    const int64_t bytes = Elements(param) * SizeOf(param.dtype);
    ranges.emplace_back(begin, begin + static_cast<uintptr_t>(bytes),
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

const void* InitialWeights(const Plan& plan, absl::Span<const ParamSpec> specs,
                           int param) {
  if (specs[param].data != nullptr) return specs[param].data;
  for (size_t p = 0; p < specs.size(); ++p) {
    if (plan.params[p].tied_to == param && specs[p].data != nullptr) {
      return specs[p].data;
    }
  }
  return nullptr;
}

absl::StatusOr<void*> ParamStore::Own(int64_t bytes, MemoryKind kind,
                                      Device& device) {
  ZEROMINI_ASSIGN_OR_RETURN(Buffer memory, device.Allocate(bytes, kind));
  owned_->push_back(memory);
  return memory.get();
}

absl::Status ParamStore::AllocateRegions(const Plan& plan, Device& device) {
  const std::vector<char> keeps_gradients = KeepsGradients(plan);
  std::vector<void*> weights(plan.regions.size(), nullptr);
  std::vector<float*> gradients(plan.regions.size(), nullptr);
  for (size_t r = 0; r < plan.regions.size(); ++r) {
    const RegionPlan& region = plan.regions[r];
    ZEROMINI_ASSIGN_OR_RETURN(weights[r],
                              Own(region.elements * SizeOf(region.dtype),
                                  MemoryKind::kWeights, device));
    if (keeps_gradients[r] == 0) continue;
    ZEROMINI_ASSIGN_OR_RETURN(void* const memory,
                              Own(region.elements * int64_t{sizeof(float)},
                                  MemoryKind::kGradients, device));
    gradients[r] = static_cast<float*>(memory);
  }
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    if (param.region < 0) continue;
    weights_[p] =
        ElementAt(weights[param.region], param.region_offset, param.dtype);
    // Where several share it, its part of the bucket is ours.
    float* const full = gradients[param.region];
    if (full == nullptr || param.sharers.size() > 1) continue;
    gradients_[p] = full + param.region_offset;
  }
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const BucketPlan& bucket = plan.buckets[b];
    if (!bucket.in_place()) continue;
    flat_weights_[b] =
        ElementAt(weights[bucket.region], bucket.region_offset, bucket.dtype);
    float* const full = gradients[bucket.region];
    if (full != nullptr) flat_gradients_[b] = full + bucket.region_offset;
  }
  return absl::OkStatus();
}

absl::Status ParamStore::Allocate(const Plan& plan,
                                  const OptimizerOptions& options,
                                  Device& device) {
  if (!KeepsWeightShards(options)) {
    ZEROMINI_RETURN_IF_ERROR(AllocateRegions(plan, device));
  }
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    if (param.tied_to >= 0) {
      weights_[p] = weights_[param.tied_to];
    } else if (param.frozen) {
      ZEROMINI_ASSIGN_OR_RETURN(
          weights_[p], Own(TensorBytes(param), MemoryKind::kWeights, device));
    }
  }
  return absl::OkStatus();
}

absl::Status ParamStore::Fill(const Plan& plan,
                              absl::Span<const ParamSpec> specs,
                              Device& device) {
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    if (param.tied_to >= 0 || weights_[p] == nullptr) continue;
    const void* from = InitialWeights(plan, specs, static_cast<int>(p));
    if (from == nullptr) continue;
    ZEROMINI_RETURN_IF_ERROR(
        device.Copy(from, weights_[p], TensorBytes(param), Stream{}));
  }
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
  const bool external = options.memory == MemoryForm::kExternal;
  if (external) ZEROMINI_RETURN_IF_ERROR(CheckExternal(plan, specs));
  ZEROMINI_RETURN_IF_ERROR(CheckAligned(plan, specs));
  ZEROMINI_RETURN_IF_ERROR(CheckOverlap(plan, specs));
  if (!external) {
    ZEROMINI_RETURN_IF_ERROR(store.Allocate(plan, options, device));
    ZEROMINI_RETURN_IF_ERROR(store.Fill(plan, specs, device));
    return store;
  }
  for (size_t p = 0; p < specs.size(); ++p) {
    const int owner = plan.params[p].tied_to;
    store.weights_[p] = specs[owner >= 0 ? static_cast<size_t>(owner) : p].data;
  }
  return store;
}

}  // namespace zeromini
