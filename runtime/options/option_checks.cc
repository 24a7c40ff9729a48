#include "runtime/options/option_checks.h"

#include <cmath>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shard/layout_cost.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Kernels compute in fp32: what is checked is what they will see.
bool FitsFloat(double value) {
  return std::isfinite(static_cast<float>(value));
}

constexpr double kLeastFloat = std::numeric_limits<float>::min();

bool IsFraction(double beta) {
  return beta >= 0 && static_cast<float>(beta) < 1;
}

// 0, or what a gradient can be scaled to; infinity is a limit never reached.
absl::Status CheckLimit(const char* name, double limit) {
  if (limit == 0 || limit >= kLeastFloat) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(name, " must be 0 (off) or positive in fp32 (not negative, ",
                   "at least ", kLeastFloat, "), got ", limit));
}

absl::Status CheckWire(const char* name, DType wire) {
  if (wire == DType::kFloat32 || wire == DType::kBFloat16) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(name, " must be fp32 or bf16, got ", DTypeName(wire)));
}

// A limit that NaN is neither below nor above would decide nothing.
absl::Status CheckIgnore(const OptimizerOptions& options) {
  if (options.non_finite != NonFiniteGradients::kIgnore) {
    return absl::OkStatus();
  }
  const std::pair<const char*, double> limits[] = {
      {"max_grad_norm", options.max_grad_norm},
      {"max_grad_value", options.max_grad_value},
      {"skip_above_grad_norm", options.skip_above_grad_norm}};
  for (const auto& [name, limit] : limits) {
    if (limit == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "non_finite is kIgnore, but ", name, " is ", limit,
        ", which needs to know that gradients are finite: set non_finite to "
        "kError or kSkip, or ",
        name, " to 0"));
  }
  return absl::OkStatus();
}

absl::Status CheckDevice(DeviceKind device) {
  if (device == DeviceKind::kHost) return absl::OkStatus();
  return absl::UnimplementedError(absl::StrCat(
      "device is ", DeviceKindName(device),
      ", for which this library has no update kernels: set "
      "OptimizerOptions::device to kHost, and keep weights and gradients in "
      "host memory"));
}

// Enumerators are 0 to `last`; a program may cast any number.
template <typename Enum>
absl::Status CheckEnum(absl::string_view name, Enum value, Enum last) {
  const int number = static_cast<int>(value);
  if (number >= 0 && number <= static_cast<int>(last)) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      name, " is ", number, ", but must be 0 to ", static_cast<int>(last)));
}

absl::Status CheckEnums(const OptimizerOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("algorithm", options.algorithm, Algorithm::kSgd));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("reduction", options.reduction, Reduction::kSum));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("non_finite", options.non_finite, NonFiniteGradients::kIgnore));
  ZEROMINI_RETURN_IF_ERROR(CheckEnum(
      "absent_gradients", options.absent_gradients, AbsentGradients::kSkip));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("memory", options.memory, MemoryForm::kFlat));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("naming", options.naming, Naming::kOfficial));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("device", options.device, DeviceKind::kCuda));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("kernels", options.kernels, KernelChoice::kReference));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("master", options.master, MasterFormat::kRemainder8));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("state", options.state, StateFormat::kInt8));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("blocks", options.blocks, BlockCuts::kSplitAtCuts));
  ZEROMINI_RETURN_IF_ERROR(CheckEnum("second_moment", options.second_moment,
                                     SecondMoment::kFactored));
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum("bucketing", options.bucketing, Bucketing::kByLayer));
  return CheckEnum("value_blocks", options.value_blocks, ValueBlocks::kWhole);
}

// What no parameter could have would train as something else and not say so.
absl::Status CheckSecondMoment(const OptimizerOptions& options) {
  if (options.second_moment == SecondMoment::kOfficial) return absl::OkStatus();
  for (const HyperGroup& group : options.hyper_groups) {
    if (group.algorithm.value_or(options.algorithm) == Algorithm::kAdamMini) {
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "second_moment is ", SecondMomentName(options.second_moment),
      ", which parameters of Adam-mini get, but no group has that algorithm: "
      "OptimizerOptions::algorithm is ",
      AlgorithmName(options.algorithm)));
}

absl::Status CheckLayout(const OptimizerOptions& options) {
  const std::pair<const char*, int64_t> sizes[] = {
      {"bucket_bytes", options.bucket_bytes},
      {"buffer_budget_bytes", options.buffer_budget_bytes},
      {"collective_cost_bytes", options.collective_cost_bytes}};
  for (const auto& [name, bytes] : sizes) {
    if (bytes >= 0 && bytes <= kMostLayoutBytes) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        name, " must be 0 to ", kMostLayoutBytes, ", got ", bytes));
  }
  if (options.copy_cost >= 0 && options.copy_cost <= kMostCopyCost) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("copy_cost, of a copied byte in bytes on the wire, must be ",
                   "0 to ", kMostCopyCost, ", got ", options.copy_cost));
}

absl::Status CheckDType(const ParamSpec& param,
                        const OptimizerOptions& options) {
  if (param.dtype != DType::kFloat32 && param.dtype != DType::kBFloat16 &&
      param.dtype != DType::kFloat16) {
    return absl::InvalidArgumentError(absl::StrCat(
        "parameter '", param.name, "': the dtype must be fp32, bf16 or fp16, ",
        "got ", DTypeName(param.dtype)));
  }
  const bool remainder = options.master == MasterFormat::kRemainder16 ||
                         options.master == MasterFormat::kRemainder8;
  if (remainder && param.dtype == DType::kFloat16) {
    return absl::InvalidArgumentError(
        absl::StrCat("parameter '", param.name, "' is fp16, but a master of ",
                     MasterFormatName(options.master), " needs bf16 weights"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckGroup(const HyperGroup& group) {
  ZEROMINI_RETURN_IF_ERROR(
      CheckEnum(absl::StrCat("group '", group.name, "': algorithm"),
                group.algorithm.value_or(Algorithm::kSgd), Algorithm::kSgd));
  if (!IsFraction(group.beta1) || !IsFraction(group.beta2)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group '", group.name, "': betas must be in [0, 1), also as ",
        "fp32, got ", group.beta1, " and ", group.beta2));
  }
  if (!(group.epsilon >= kLeastFloat) || !FitsFloat(group.epsilon)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group '", group.name, "': epsilon must be positive in fp32 (at least ",
        kLeastFloat, "), got ", group.epsilon));
  }
  if (!(group.weight_decay >= 0) || !FitsFloat(group.weight_decay) ||
      !(group.learning_rate_scale >= 0) ||
      !FitsFloat(group.learning_rate_scale)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "group '", group.name, "': weight decay ", group.weight_decay,
        " and learning rate scale ", group.learning_rate_scale,
        " must not be negative, and finite as fp32"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const OptimizerOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(CheckEnums(options));
  ZEROMINI_RETURN_IF_ERROR(CheckDevice(options.device));
  if (options.stage < 1 || options.stage > 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("stage must be 1, 2 or 3, got ", options.stage));
  }
  if (options.stage == 3 && options.memory != MemoryForm::kFlat) {
    return absl::InvalidArgumentError(
        "stage 3 keeps the weights itself: memory must be flat");
  }
  if (options.gather_budget_bytes < 0 || options.prefetch < 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "gather_budget_bytes ", options.gather_budget_bytes, " and prefetch ",
        options.prefetch, " must not be negative"));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckLayout(options));
  if (options.hyper_groups.empty()) {
    return absl::InvalidArgumentError("options need at least one group");
  }
  for (const HyperGroup& group : options.hyper_groups) {
    ZEROMINI_RETURN_IF_ERROR(CheckGroup(group));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckSecondMoment(options));
  if (options.micro_steps < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "micro_steps must be at least 1, got ", options.micro_steps));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckLimit("max_grad_norm", options.max_grad_norm));
  ZEROMINI_RETURN_IF_ERROR(
      CheckLimit("max_grad_value", options.max_grad_value));
  ZEROMINI_RETURN_IF_ERROR(
      CheckLimit("skip_above_grad_norm", options.skip_above_grad_norm));
  ZEROMINI_RETURN_IF_ERROR(CheckIgnore(options));
  ZEROMINI_RETURN_IF_ERROR(CheckWire("gradient_wire", options.gradient_wire));
  return CheckWire("weight_wire", options.weight_wire);
}

namespace {

absl::Status CheckRule(const ParamSpec& param) {
  const std::string rule = absl::StrCat("parameter '", param.name, "': rule.");
  ZEROMINI_RETURN_IF_ERROR(CheckEnum(
      absl::StrCat(rule, "kind"), param.rule.kind, BlockRule::Kind::kColumns));
  for (const BlockSegment& segment : param.rule.segments) {
    ZEROMINI_RETURN_IF_ERROR(CheckEnum(absl::StrCat(rule, "segments.form"),
                                       segment.form, MomentForm::kColumns));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSpecs(absl::Span<const ParamSpec> params,
                        const OptimizerOptions& options) {
  if (params.empty()) {
    return absl::InvalidArgumentError("there are no parameters");
  }
  const int groups = static_cast<int>(options.hyper_groups.size());
  for (const ParamSpec& param : params) {
    if (param.hyper_group < 0 || param.hyper_group >= groups) {
      return absl::InvalidArgumentError(
          absl::StrCat("parameter '", param.name, "' is in group ",
                       param.hyper_group, " but there are ", groups));
    }
    ZEROMINI_RETURN_IF_ERROR(CheckDType(param, options));
    ZEROMINI_RETURN_IF_ERROR(CheckRule(param));
    if (param.expert && options.expert_slices < 2) {
      return absl::InvalidArgumentError(absl::StrCat(
          "parameter '", param.name, "' is an expert's, but expert_slices is ",
          options.expert_slices));
    }
  }
  return absl::OkStatus();
}

namespace {

absl::Status CheckGroupStep(const HyperGroup& group, double learning_rate,
                            bool divides) {
  const double rate = learning_rate * group.learning_rate_scale;
  const std::string who =
      absl::StrCat("group '", group.name, "': a learning rate of ", rate);
  if (!FitsFloat(rate)) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, " (", learning_rate, " times learning_rate_scale ",
                     group.learning_rate_scale, ") is beyond fp32"));
  }
  if (rate * group.weight_decay > 1) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, " times a weight decay of ", group.weight_decay,
                     " is above 1: decay would turn the weights around"));
  }
  // The largest factor that there can be: of a first update, where the gradient
  // is zero.
  const double most = rate / (1 - group.beta1) / group.epsilon;
  if (divides && !FitsFloat(most)) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, " over 1 - beta1 ", 1 - group.beta1, " and epsilon ",
                     group.epsilon, " is beyond fp32; raise epsilon"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckStep(const StepOptions& step, const OptimizerOptions& options,
                       absl::Span<const HyperGroup> groups, double mean_scale) {
  if (!std::isfinite(step.learning_rate) || step.learning_rate < 0 ||
      !std::isfinite(step.loss_scale) || step.loss_scale <= 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "learning rate ", step.learning_rate, " and loss scale ",
        step.loss_scale,
        " must be finite, the rate not negative, the scale positive"));
  }
  if (!FitsFloat(mean_scale) || mean_scale < kLeastFloat) {
    return absl::InvalidArgumentError(absl::StrCat(
        "with loss scale ", step.loss_scale, " gradients are multiplied by ",
        mean_scale, ", which is beyond fp32"));
  }
  const double limit = options.max_grad_value / mean_scale;
  if (options.max_grad_value > 0 && limit < kLeastFloat) {
    return absl::InvalidArgumentError(
        absl::StrCat("max_grad_value ", options.max_grad_value,
                     " with loss scale ", step.loss_scale,
                     " clips gradients to ", limit, ", which is beyond fp32"));
  }
  for (const HyperGroup& group : groups) {
    const bool divides =
        group.algorithm.value_or(options.algorithm) != Algorithm::kSgd;
    ZEROMINI_RETURN_IF_ERROR(
        CheckGroupStep(group, step.learning_rate, divides));
  }
  return absl::OkStatus();
}

void AddGroup(const HyperGroup& group, FnvHash* hash) {
  hash->Add(group.learning_rate_scale)
      .Add(group.weight_decay)
      .Add(group.beta1)
      .Add(group.beta2)
      .Add(group.epsilon)
      .Add(group.decay_norms_and_biases ? 1.0 : 0.0);
}

}  // namespace zeromini
