#include "runtime/c/c_convert.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_message.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::c_api {
namespace {

// A struct of the program's size becomes one of ours: what the program does not
// know keeps its default. All are plain data, so bytes may be copied.
template <typename T>
T Complete(const T& from, void (*init)(T*, size_t)) {
  T result;
  init(&result, sizeof(result));
  std::memcpy(&result, &from, std::min(sizeof(T), from.struct_size));
  return result;
}

template <typename T>
void Deliver(T from, T* to) {
  from.struct_size = to->struct_size;
  std::memcpy(to, &from, std::min(sizeof(T), to->struct_size));
}

static_assert(static_cast<int>(DType::kByte) == ZEROMINI_BYTE);
static_assert(static_cast<int>(ReduceOp::kMin) == ZEROMINI_MIN);
static_assert(static_cast<int>(BlockRule::Kind::kFused) == ZEROMINI_RULE_FUSED);
static_assert(static_cast<int>(Algorithm::kSgd) == ZEROMINI_SGD);
static_assert(static_cast<int>(MasterFormat::kRemainder8) ==
              ZEROMINI_MASTER_REMAINDER8);
static_assert(static_cast<int>(StateFormat::kInt8) == ZEROMINI_STATE_INT8);
static_assert(static_cast<int>(GatherPass::kNone) == ZEROMINI_PASS_NONE);
static_assert(static_cast<int>(Reduction::kSum) == ZEROMINI_REDUCE_SUM);
static_assert(static_cast<int>(AbsentGradients::kSkip) == ZEROMINI_SKIP);
static_assert(static_cast<int>(NonFiniteGradients::kSkip) == ZEROMINI_SKIP);
static_assert(static_cast<int>(MemoryForm::kFlat) == ZEROMINI_MEMORY_FLAT);
static_assert(static_cast<int>(Naming::kOfficial) == ZEROMINI_NAMING_OFFICIAL);
static_assert(static_cast<int>(ValueBlocks::kWhole) == ZEROMINI_VALUE_WHOLE);
static_assert(static_cast<int>(LogLevel::kWarning) == ZEROMINI_LOG_WARNING);
static_assert(kPurposes == ZEROMINI_PURPOSES);

std::string StringOr(const char* text, const char* otherwise) {
  return text == nullptr ? otherwise : text;
}

// Numbers of which the C++ API knows no bound, since it takes containers and
// bools; the rest is checked there, under the same names.
constexpr int64_t kUnbounded = std::numeric_limits<int64_t>::max();
constexpr int kMostDimensions = 64;
constexpr int kMostLayers = 1 << 24;
constexpr int kMostParams = 1 << 24;

absl::Status Check(const zeromini_param& param, const std::string& where) {
  return Fields(Sized<zeromini_param>::kName, where)
      .NotNull("name", param.name)
      .Range("dims", param.dims, 1, kMostDimensions)
      .Array("shape", param.shape, "dims", param.dims)
      .Flag("output_is_last", param.output_is_last)
      .DTypeOf("dtype", param.dtype, ZEROMINI_FLOAT16)
      .OneOf("rule", param.rule, ZEROMINI_RULE_FUSED)
      .Range("rows_per_head", param.rows_per_head, 0, kUnbounded)
      .Array("segments", param.segments, "num_segments", param.num_segments)
      .Range("layer", param.layer, -1, kMostLayers)
      .Range("layer_set", param.layer_set, -1, kUnbounded)
      .Range("hyper_group", param.hyper_group, -1, kUnbounded)
      .Flag("frozen", param.frozen)
      .Flag("expert", param.expert)
      .status();
}

absl::Status Check(const zeromini_hyper_group& hyper,
                   const std::string& where) {
  Fields fields(Sized<zeromini_hyper_group>::kName, where);
  fields.NotNull("name", hyper.name)
      .Flag("decay_norms_and_biases", hyper.decay_norms_and_biases)
      .Range("own_algorithm", hyper.own_algorithm, -1, ZEROMINI_SGD)
      .Array("patterns", hyper.patterns, "num_patterns", hyper.num_patterns);
  if (!fields.status().ok()) return fields.status();
  for (int i = 0; i < hyper.num_patterns; ++i) {
    fields.NotNull(absl::StrCat("patterns[", i, "]").c_str(),
                   hyper.patterns[i]);
  }
  return fields.status();
}

absl::Status Check(const zeromini_options& options) {
  return Fields(Sized<zeromini_options>::kName, "")
      .OneOf("algorithm", options.algorithm, ZEROMINI_SGD)
      .Array("hyper_groups", options.hyper_groups, "num_hyper_groups",
             options.num_hyper_groups)
      .OneOf("reduction", options.reduction, ZEROMINI_REDUCE_SUM)
      .Flag("check_finite", options.check_finite)
      .OneOf("non_finite", options.non_finite, ZEROMINI_SKIP)
      .OneOf("absent_gradients", options.absent_gradients, ZEROMINI_SKIP)
      .OneOf("memory", options.memory, ZEROMINI_MEMORY_FLAT)
      .Range("hidden", options.hidden, 0, kUnbounded)
      .Range("heads", options.heads, 0, kUnbounded)
      .Range("kv_heads", options.kv_heads, 0, kUnbounded)
      .Range("head_dim", options.head_dim, 0, kUnbounded)
      .OneOf("naming", options.naming, ZEROMINI_NAMING_OFFICIAL)
      .OneOf("value_blocks", options.value_blocks, ZEROMINI_VALUE_WHOLE)
      .Range("bucket_bytes", options.bucket_bytes, 0, kUnbounded)
      .NotNull("kernels", options.kernels)
      .DTypeOf("gradient_wire", options.gradient_wire, ZEROMINI_BFLOAT16)
      .DTypeOf("weight_wire", options.weight_wire, ZEROMINI_BFLOAT16)
      .OneOf("master", options.master, ZEROMINI_MASTER_REMAINDER8)
      .OneOf("state", options.state, ZEROMINI_STATE_INT8)
      .Range("shard_ranks", options.shard_ranks, 0, kUnbounded)
      .Range("expert_slices", options.expert_slices, 1, kUnbounded)
      .status();
}

ParamSpec Convert(const zeromini_param& param) {
  ParamSpec spec;
  spec.name = param.name;
  spec.shape.assign(param.shape, param.shape + param.dims);
  spec.slices = param.slices;
  spec.output_is_last = param.output_is_last != 0;
  spec.padding_rows = param.padding_rows;
  spec.dtype = static_cast<DType>(param.dtype);
  spec.rule.kind = static_cast<BlockRule::Kind>(param.rule);
  spec.rule.rows_per_head = param.rows_per_head;
  for (int i = 0; i < param.num_segments; ++i) {
    spec.rule.segments.push_back(
        {param.segments[i].rows, param.segments[i].rows_per_block});
  }
  spec.layer = param.layer;
  spec.layer_set = param.layer_set;
  spec.hyper_group = param.hyper_group;
  spec.frozen = param.frozen != 0;
  spec.tied_to = StringOr(param.tied_to, "");
  spec.data = param.data;
  spec.expert = param.expert != 0;
  return spec;
}

HyperGroup Convert(const zeromini_hyper_group& hyper) {
  HyperGroup group;
  group.name = hyper.name;
  group.learning_rate_scale = hyper.learning_rate_scale;
  group.weight_decay = hyper.weight_decay;
  group.beta1 = hyper.beta1;
  group.beta2 = hyper.beta2;
  group.epsilon = hyper.epsilon;
  group.decay_norms_and_biases = hyper.decay_norms_and_biases != 0;
  if (hyper.own_algorithm >= 0) {
    group.algorithm = static_cast<Algorithm>(hyper.own_algorithm);
  }
  group.patterns.assign(hyper.patterns, hyper.patterns + hyper.num_patterns);
  return group;
}

// Warnings name what c.h has, wherever they go.
LogSink LogOf(const zeromini_options& options) {
  const zeromini_log_sink sink = options.log;
  void* const context = options.log_context;
  return [sink, context](LogLevel level, absl::string_view message) {
    const std::string text = InC(message);
    if (sink == nullptr) return Log(nullptr, level, text);
    sink(context, static_cast<zeromini_log_level>(level), text.c_str());
  };
}

OptimizerOptions Convert(const zeromini_options& from) {
  OptimizerOptions options;
  options.algorithm = static_cast<Algorithm>(from.algorithm);
  options.stage = from.stage;
  options.reduction = static_cast<Reduction>(from.reduction);
  options.max_grad_norm = from.max_grad_norm;
  options.check_finite = from.check_finite != 0;
  options.non_finite = static_cast<NonFiniteGradients>(from.non_finite);
  options.absent_gradients =
      static_cast<AbsentGradients>(from.absent_gradients);
  options.micro_steps = from.micro_steps;
  options.memory = static_cast<MemoryForm>(from.memory);
  options.model.hidden = from.hidden;
  options.model.heads = from.heads;
  options.model.kv_heads = from.kv_heads;
  options.model.head_dim = from.head_dim;
  options.naming = static_cast<Naming>(from.naming);
  options.value_blocks = static_cast<ValueBlocks>(from.value_blocks);
  options.bucket_bytes = from.bucket_bytes;
  options.kernels = from.kernels;
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
  options.log = LogOf(from);
  return options;
}

// Element `index` of an array whose elements have the program's size.
template <typename T>
absl::StatusOr<const T*> Element(const T* array, int index,
                                 const std::string& where) {
  ZEROMINI_RETURN_IF_ERROR(CheckOut(where, array));
  const auto* element = reinterpret_cast<const T*>(
      reinterpret_cast<const char*>(array) + index * array->struct_size);
  ZEROMINI_RETURN_IF_ERROR(CheckOut(where, element));
  if (element->struct_size == array->struct_size) return element;
  return absl::InvalidArgumentError(absl::StrCat(
      where, ": ", Sized<T>::kName, ".struct_size is ", element->struct_size,
      ", but that of the first is ", array->struct_size));
}

}  // namespace

absl::StatusOr<HyperGroup> FromC(const zeromini_hyper_group* given,
                                 const std::string& where) {
  ZEROMINI_RETURN_IF_ERROR(CheckIn(where, given));
  const zeromini_hyper_group hyper =
      Complete(*given, zeromini_hyper_group_init);
  ZEROMINI_RETURN_IF_ERROR(Check(hyper, where));
  return Convert(hyper);
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

absl::StatusOr<std::vector<ParamSpec>> FromC(const zeromini_param* params,
                                             int num_params) {
  ZEROMINI_RETURN_IF_ERROR(
      CheckRange("num_params", num_params, 1, kMostParams));
  ZEROMINI_RETURN_IF_ERROR(CheckNotNull("params", params));
  std::vector<ParamSpec> specs;
  for (int i = 0; i < num_params; ++i) {
    const std::string where = absl::StrCat("params[", i, "]");
    ZEROMINI_ASSIGN_OR_RETURN(const zeromini_param* given,
                              Element(params, i, where));
    ZEROMINI_RETURN_IF_ERROR(CheckIn(where, given));
    const zeromini_param param = Complete(*given, zeromini_param_init);
    ZEROMINI_RETURN_IF_ERROR(Check(param, where));
    specs.push_back(Convert(param));
  }
  return specs;
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
  Deliver(
      zeromini_memory_report{sizeof(zeromini_memory_report), from.weights,
                             from.gradients, from.momentum, from.second_moment,
                             from.master, from.statistics, from.buckets,
                             from.peak, from.gathered},
      report);
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
