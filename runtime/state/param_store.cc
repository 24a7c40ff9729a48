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

absl::Status ParamStore::AllocateRegion(const Plan& plan, int region,
                                        Device& device) {
  const DType dtype = plan.regions[region].dtype;
  const int64_t elements = plan.regions[region].elements;
  ZEROMINI_ASSIGN_OR_RETURN(
      void* const weights,
      Own(elements * SizeOf(dtype), MemoryKind::kWeights, device));
  float* full_gradients = nullptr;
  if (KeepsGradients(plan, region)) {
    ZEROMINI_ASSIGN_OR_RETURN(
        void* const memory,
        Own(elements * int64_t{sizeof(float)}, MemoryKind::kGradients, device));
    full_gradients = static_cast<float*>(memory);
  }
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    if (param.region != region) continue;
    weights_[p] = ElementAt(weights, param.region_offset, dtype);
    // Where several share it, its part of the bucket is ours.
    if (full_gradients == nullptr || param.sharers.size() > 1) continue;
    gradients_[p] = full_gradients + param.region_offset;
  }
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const BucketPlan& bucket = plan.buckets[b];
    if (bucket.region != region) continue;
    flat_weights_[b] = ElementAt(weights, bucket.region_offset, dtype);
    if (full_gradients == nullptr) continue;
    flat_gradients_[b] = full_gradients + bucket.region_offset;
  }
  return absl::OkStatus();
}

absl::Status ParamStore::Allocate(const Plan& plan,
                                  const OptimizerOptions& options,
                                  Device& device) {
  const bool sharded = KeepsWeightShards(options);
  for (size_t r = 0; r < plan.regions.size() && !sharded; ++r) {
    ZEROMINI_RETURN_IF_ERROR(AllocateRegion(plan, static_cast<int>(r), device));
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
