#include "runtime/state/param_store.h"

#include <algorithm>
#include <cstdint>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "runtime/device/row_packing.h"
#include "runtime/options/stages.h"
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

absl::Status ParamStore::AllocateBucket(const Plan& plan, int bucket,
                                        bool gradients, Device& device) {
  const BucketPlan& layout = plan.buckets[bucket];
  const int64_t elements = layout.segment * plan.options.ranks;
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer weights,
      device.Allocate(elements * SizeOf(layout.dtype), MemoryKind::kWeights));
  flat_weights_[bucket] = weights.get();
  owned_->push_back(std::move(weights));
  if (gradients && layout.dtype == DType::kFloat32) {
    ZEROMINI_ASSIGN_OR_RETURN(Buffer memory,
                              device.Allocate(elements * int64_t{sizeof(float)},
                                              MemoryKind::kGradients));
    flat_gradients_[bucket] = Floats(memory);
    owned_->push_back(std::move(memory));
  }
  for (size_t i = 0; i < layout.params.size(); ++i) {
    const int param = layout.params[i];
    weights_[param] =
        ElementAt(flat_weights_[bucket], layout.param_offset[i], layout.dtype);
    if (flat_gradients_[bucket] != nullptr) {
      gradients_[param] = flat_gradients_[bucket] + layout.param_offset[i];
    }
  }
  return absl::OkStatus();
}

absl::Status ParamStore::AllocateAlone(const PlannedParam& param, int index,
                                       bool gradients, Device& device) {
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer weights, device.Allocate(Elements(param) * SizeOf(param.dtype),
                                      MemoryKind::kWeights));
  weights_[index] = weights.get();
  owned_->push_back(std::move(weights));
  if (!gradients || param.frozen || param.dtype != DType::kFloat32) {
    return absl::OkStatus();
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer memory, device.Allocate(Elements(param) * int64_t{sizeof(float)},
                                     MemoryKind::kGradients));
  gradients_[index] = Floats(memory);
  owned_->push_back(std::move(memory));
  return absl::OkStatus();
}

absl::Status ParamStore::Allocate(const Plan& plan,
                                  const OptimizerOptions& options,
                                  Device& device) {
  const bool sharded = KeepsWeightShards(options);
  const bool full_gradients = KeepsFullGradients(options);
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    if (!plan.buckets[b].in_place || sharded) continue;
    ZEROMINI_RETURN_IF_ERROR(
        AllocateBucket(plan, static_cast<int>(b), full_gradients, device));
  }
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    const bool home = full_gradients && param.sharers.size() == 1;
    if (param.tied_to >= 0) {
      weights_[p] = weights_[param.tied_to];
    } else if (weights_[p] == nullptr && !(sharded && !param.frozen)) {
      ZEROMINI_RETURN_IF_ERROR(
          AllocateAlone(param, static_cast<int>(p), home, device));
    }
    if (!home) gradients_[p] = nullptr;  // Its part of the bucket is ours.
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
