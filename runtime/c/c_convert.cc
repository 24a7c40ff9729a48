#include "runtime/c/c_convert.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_message.h"
#include "runtime/c/c_sized.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::c_api {
namespace {

static_assert(static_cast<int>(DType::kByte) == ZEROMINI_BYTE);
static_assert(static_cast<int>(ReduceOp::kMin) == ZEROMINI_MIN);
static_assert(static_cast<int>(DeviceKind::kCuda) == ZEROMINI_CUDA);
static_assert(static_cast<int>(KernelChoice::kReference) ==
              ZEROMINI_KERNELS_REFERENCE);
static_assert(static_cast<int>(MasterFormat::kRemainder8) ==
              ZEROMINI_MASTER_REMAINDER8);
static_assert(static_cast<int>(StateFormat::kInt8) == ZEROMINI_STATE_INT8);
static_assert(static_cast<int>(GatherPass::kNone) == ZEROMINI_PASS_NONE);
static_assert(static_cast<int>(Reduction::kSum) == ZEROMINI_REDUCE_SUM);
static_assert(static_cast<int>(AbsentGradients::kSkip) == ZEROMINI_SKIP);
static_assert(static_cast<int>(NonFiniteGradients::kIgnore) == ZEROMINI_IGNORE);
static_assert(static_cast<int>(MemoryForm::kFlat) == ZEROMINI_MEMORY_FLAT);
static_assert(static_cast<int>(Naming::kOfficial) == ZEROMINI_NAMING_OFFICIAL);
static_assert(static_cast<int>(ValueBlocks::kWhole) == ZEROMINI_VALUE_WHOLE);
static_assert(static_cast<int>(BlockCuts::kSplitAtCuts) ==
              ZEROMINI_BLOCKS_SPLIT_AT_CUTS);
static_assert(static_cast<int>(Bucketing::kByLayer) ==
              ZEROMINI_BUCKETING_BY_LAYER);
static_assert(static_cast<int>(SecondMoment::kFactored) ==
              ZEROMINI_SECOND_MOMENT_FACTORED);
static_assert(static_cast<int>(LogLevel::kWarning) == ZEROMINI_LOG_WARNING);
static_assert(kPurposes == ZEROMINI_PURPOSES);

absl::Status Check(const zeromini_options& options) {
  Fields fields(Sized<zeromini_options>::kName, "");
  CheckPlanning(options, fields);
  return fields
      .Array("hyper_groups", options.hyper_groups, "num_hyper_groups",
             options.num_hyper_groups)
      .OneOf("reduction", options.reduction, ZEROMINI_REDUCE_SUM)
      .OneOf("non_finite", options.non_finite, ZEROMINI_IGNORE)
      .OneOf("absent_gradients", options.absent_gradients, ZEROMINI_SKIP)
      .OneOf("device", options.device, ZEROMINI_CUDA)
      .OneOf("kernels", options.kernels, ZEROMINI_KERNELS_REFERENCE)
      .DTypeOf("gradient_wire", options.gradient_wire, ZEROMINI_BFLOAT16)
      .DTypeOf("weight_wire", options.weight_wire, ZEROMINI_BFLOAT16)
      .OneOf("master", options.master, ZEROMINI_MASTER_REMAINDER8)
      .OneOf("state", options.state, ZEROMINI_STATE_INT8)
      .Range("shard_ranks", options.shard_ranks, 0, kUnbounded)
      .Range("expert_slices", options.expert_slices, 1, kUnbounded)
      .status();
}

OptimizerOptions Convert(const zeromini_options& from) {
  OptimizerOptions options;
  CopyPlanning(from, &options);
  options.reduction = static_cast<Reduction>(from.reduction);
  options.max_grad_norm = from.max_grad_norm;
  options.non_finite = static_cast<NonFiniteGradients>(from.non_finite);
  options.absent_gradients =
      static_cast<AbsentGradients>(from.absent_gradients);
  options.micro_steps = from.micro_steps;
  options.device = static_cast<DeviceKind>(from.device);
  options.kernels = static_cast<KernelChoice>(from.kernels);
  options.gradient_wire = static_cast<DType>(from.gradient_wire);
  options.weight_wire = static_cast<DType>(from.weight_wire);
  options.skip_above_grad_norm = from.skip_above_grad_norm;
  options.max_grad_value = from.max_grad_value;
  options.master = static_cast<MasterFormat>(from.master);
  options.state = static_cast<StateFormat>(from.state);
  options.gather_budget_bytes = from.gather_budget_bytes;
  options.prefetch = from.prefetch;
  options.shard_ranks = from.shard_ranks;
  options.expert_slices = from.expert_slices;
  options.log = LogOf(from.log, from.log_context);
  return options;
}

}  // namespace

// Warnings name what c.h has, wherever they go.
LogSink LogOf(zeromini_log_sink sink, void* context) {
  return [sink, context](LogLevel level, absl::string_view message) {
    const std::string text = InC(message);
    if (sink == nullptr) return Log(nullptr, level, text);
    sink(context, static_cast<zeromini_log_level>(level), text.c_str());
  };
}

absl::StatusOr<GroupOptions> FromC(const zeromini_group_options* given) {
  GroupOptions options;
  if (given == nullptr) return options;
  ZEROMINI_RETURN_IF_ERROR(CheckIn("options", given));
  const zeromini_group_options from =
      Complete(*given, zeromini_group_options_init);
  const char* const name = Sized<zeromini_group_options>::kName;
  if (!(from.timeout_seconds > 0)) {
    return absl::InvalidArgumentError(absl::StrCat(name, ".timeout_seconds is ",
                                                   from.timeout_seconds,
                                                   ", but must be positive"));
  }
  ZEROMINI_RETURN_IF_ERROR(
      Fields(name, "")
          .Array("hosts", from.hosts, "num_hosts", from.num_hosts)
          .status());
  options.timeout = absl::Seconds(from.timeout_seconds);
  options.hosts.assign(from.hosts, from.hosts + from.num_hosts);
  // Without one, C++ says what it says once in a process.
  if (from.log != nullptr) options.log = LogOf(from.log, from.log_context);
  return options;
}

absl::StatusOr<OptimizerOptions> FromC(const zeromini_options* given) {
  ZEROMINI_RETURN_IF_ERROR(CheckIn("options", given));
  const zeromini_options from = Complete(*given, zeromini_options_init);
  ZEROMINI_RETURN_IF_ERROR(Check(from));
  OptimizerOptions options = Convert(from);
  if (from.hyper_groups != nullptr) options.hyper_groups.clear();
  for (int i = 0; i < from.num_hyper_groups; ++i) {
    const std::string where = absl::StrCat("hyper_groups[", i, "]");
    ZEROMINI_ASSIGN_OR_RETURN(const zeromini_hyper_group* hyper,
                              Element(from.hyper_groups, i, where));
    ZEROMINI_ASSIGN_OR_RETURN(HyperGroup group, FromC(hyper, where));
    options.hyper_groups.push_back(std::move(group));
  }
  return options;
}

absl::StatusOr<StepOptions> FromC(const zeromini_step_options* given) {
  ZEROMINI_RETURN_IF_ERROR(CheckIn("options", given));
  const zeromini_step_options from =
      Complete(*given, zeromini_step_options_init);
  ZEROMINI_RETURN_IF_ERROR(Fields(Sized<zeromini_step_options>::kName, "")
                               .Flag("wait", from.wait)
                               .status());
  StepOptions options;
  options.learning_rate = from.learning_rate;
  options.wait = from.wait != 0;
  options.loss_scale = from.loss_scale;
  return options;
}

zeromini_traffic ToC(const Traffic& traffic) {
  zeromini_traffic result;
  for (int p = 0; p < kPurposes; ++p) {
    result.calls[p] = traffic[p].calls;
    result.bytes[p] = traffic[p].bytes;
    result.padding_bytes[p] = traffic[p].padding_bytes;
  }
  return result;
}

void ToC(const StepReport& from, zeromini_step_report* report) {
  zeromini_step_report result;
  zeromini_step_report_init(&result, sizeof(result));
  result.step = from.step;
  result.skipped = from.skipped ? 1 : 0;
  result.not_finite = from.not_finite ? 1 : 0;
  result.pending = from.pending ? 1 : 0;
  result.skipped_late = from.skipped_late;
  result.not_finite_late = from.not_finite_late;
  result.grad_norm = from.grad_norm;
  result.clip_scale = from.clip_scale;
  result.absent_params = from.absent_params;
  result.traffic = ToC(from.traffic);
  result.seconds_total = from.seconds_total;
  result.seconds_exposed_gradients = from.seconds_exposed_gradients;
  result.seconds_scalars = from.seconds_scalars;
  result.seconds_update = from.seconds_update;
  result.seconds_exposed_weights = from.seconds_exposed_weights;
  const std::string because = InC(from.skipped_because);
  std::memcpy(result.skipped_because, because.data(),
              std::min(because.size(), sizeof(result.skipped_because) - 1));
  for (int p = 0; p < kPurposes; ++p) {
    result.inside_host_bytes[p] = from.traffic[p].inside_host_bytes;
    result.between_hosts_bytes[p] = from.traffic[p].between_hosts_bytes;
  }
  Deliver(result, report);
}

void ToC(const MemoryReport& from, zeromini_memory_report* report) {
  Deliver(zeromini_memory_report{sizeof(zeromini_memory_report), from.weights,
                                 from.gradients, from.momentum,
                                 from.second_moment, from.master,
                                 from.statistics, from.buckets, from.peak,
                                 from.gathered, from.method_state, from.tables},
          report);
}

void ToC(const StepBytes& from, zeromini_step_bytes* bytes) {
  Traffic traffic = {};
  traffic[static_cast<int>(Purpose::kGradients)] = from.gradients;
  traffic[static_cast<int>(Purpose::kWeights)] = from.weights;
  traffic[static_cast<int>(Purpose::kScalars)] = from.scalars;
  Deliver(zeromini_step_bytes{sizeof(zeromini_step_bytes), ToC(traffic),
                              from.copied_gradients, from.copied_weights},
          bytes);
}

void ToC(const LevelTraffic& from, zeromini_level_traffic* traffic) {
  zeromini_level_traffic result = {};
  for (int p = 0; p < kPurposes; ++p) {
    result.inside_host_bytes[p] = from[p].inside_host;
    result.between_hosts_bytes[p] = from[p].between_hosts;
  }
  Deliver(result, traffic);
}

void ToC(const Traffic& from, zeromini_level_traffic* traffic) {
  zeromini_level_traffic result = {};
  for (int p = 0; p < kPurposes; ++p) {
    result.inside_host_bytes[p] = from[p].inside_host_bytes;
    result.between_hosts_bytes[p] = from[p].between_hosts_bytes;
  }
  Deliver(result, traffic);
}

}  // namespace zeromini::c_api
