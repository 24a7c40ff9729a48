#include "runtime/option_checks.h"

#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

bool IsFraction(double beta) { return beta >= 0 && beta < 1; }

absl::Status CheckWire(const char* name, DType wire) {
  if (wire == DType::kFloat32 || wire == DType::kBFloat16) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, " must be fp32 or bf16, got ", DTypeName(wire)));
}

}  // namespace

absl::Status CheckGroup(const ParamGroup& group) {
  if (!IsFraction(group.beta1) || !IsFraction(group.beta2)) {
    return absl::InvalidArgumentError(
        absl::StrCat("group '", group.name, "': betas must be in [0, 1), got ",
                     group.beta1, " and ", group.beta2));
  }
  if (!(group.epsilon > 0) || !std::isfinite(group.epsilon)) {
    return absl::InvalidArgumentError(
        absl::StrCat("group '", group.name, "': epsilon must be positive, got ",
                     group.epsilon));
  }
  if (!(group.weight_decay >= 0) || !std::isfinite(group.weight_decay) ||
      !(group.learning_rate_scale >= 0) ||
      !std::isfinite(group.learning_rate_scale)) {
    return absl::InvalidArgumentError(
        absl::StrCat("group '", group.name, "': weight decay ",
                     group.weight_decay, " and learning rate scale ",
                     group.learning_rate_scale, " must not be negative"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const OptimizerOptions& options) {
  if (options.stage == 3) {
    return absl::UnimplementedError(
        "ZeRO stage 3 (sharded weights) is not available yet; use 1 or 2");
  }
  if (options.stage != 1 && options.stage != 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage must be 1 or 2, got ", options.stage));
  }
  if (options.groups.empty()) {
    return absl::InvalidArgumentError("options need at least one group");
  }
  for (const ParamGroup& group : options.groups) {
    ZEROMINI_RETURN_IF_ERROR(CheckGroup(group));
  }
  if (options.micro_steps < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "micro_steps must be at least 1, got ", options.micro_steps));
  }
  if (!(options.max_grad_norm >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "max_grad_norm must not be negative, got ", options.max_grad_norm));
  }
  if (!(options.skip_above_grad_norm >= 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat("skip_above_grad_norm must not be negative, got ",
                     options.skip_above_grad_norm));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckWire("gradient_wire", options.gradient_wire));
  ZEROMINI_RETURN_IF_ERROR(CheckWire("weight_wire", options.weight_wire));
  if (options.kernels != "cpu" && options.kernels != "reference") {
    return absl::InvalidArgumentError(absl::StrCat(
        "unknown kernels '", options.kernels, "'; there are cpu, reference"));
  }
  return absl::OkStatus();
}

absl::Status CheckSpecs(absl::Span<const ParamSpec> params,
                        const OptimizerOptions& options) {
  if (params.empty()) {
    return absl::InvalidArgumentError("there are no parameters");
  }
  const int groups = static_cast<int>(options.groups.size());
  for (const ParamSpec& param : params) {
    if (param.group < 0 || param.group >= groups) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", param.name, "' is in group ", param.group,
                       " but there are ", groups));
    }
    if (param.dtype != DType::kFloat32) {
      return absl::UnimplementedError(
          absl::StrCat("parameter '", param.name,
                       "': only fp32 weights and gradients are available yet"));
    }
  }
  return absl::OkStatus();
}

uint64_t HashOptions(const OptimizerOptions& options) {
  FnvHash hash;
  hash.Add(absl::StrCat(
      static_cast<int>(options.algorithm), "|", options.stage, "|",
      static_cast<int>(options.reduction), "|", options.check_finite, "|",
      static_cast<int>(options.non_finite), "|",
      static_cast<int>(options.absent_gradients), "|", options.micro_steps, "|",
      static_cast<int>(options.gradient_wire), "|",
      static_cast<int>(options.weight_wire)));
  hash.Add(options.max_grad_norm).Add(options.skip_above_grad_norm);
  for (const ParamGroup& group : options.groups) AddGroup(group, &hash);
  return hash.value();
}

void AddGroup(const ParamGroup& group, FnvHash* hash) {
  hash->Add(group.learning_rate_scale)
      .Add(group.weight_decay)
      .Add(group.beta1)
      .Add(group.beta2)
      .Add(group.epsilon)
      .Add(group.decay_norms_and_biases ? 1.0 : 0.0);
}

}  // namespace zeromini
