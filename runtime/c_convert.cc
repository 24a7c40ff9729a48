#include "runtime/c_convert.h"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

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

// Defaults, cut to the program's size.
template <typename T>
void Init(T defaults, T* to, size_t struct_size) {
  std::memset(to, 0, struct_size);
  defaults.struct_size = struct_size;
  std::memcpy(to, &defaults, std::min(sizeof(T), struct_size));
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
static_assert(static_cast<int>(absl::StatusCode::kDataLoss) ==
              ZEROMINI_DATA_LOSS);
static_assert(kPurposes == ZEROMINI_PURPOSES);

std::string StringOr(const char* text, const char* otherwise) {
  return text == nullptr ? otherwise : text;
}

}  // namespace

char* CopyString(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

zeromini_code Fail(const absl::Status& status, char** error) {
  if (!status.ok() && error != nullptr) {
    *error = CopyString(std::string(status.message()));
  }
  return static_cast<zeromini_code>(status.code());
}

ParamSpec FromC(const zeromini_param& given) {
  const zeromini_param param = Complete(given, zeromini_param_init);
  ParamSpec spec;
  spec.name = StringOr(param.name, "");
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
  spec.gather_group = param.gather_group;
  spec.group = param.group;
  spec.frozen = param.frozen != 0;
  spec.tied_to = StringOr(param.tied_to, "");
  spec.data = param.data;
  spec.expert = param.expert != 0;
  return spec;
}

ParamGroup FromC(const zeromini_hyper& given) {
  const zeromini_hyper hyper = Complete(given, zeromini_hyper_init);
  ParamGroup group;
  group.name = StringOr(hyper.name, "default");
  group.learning_rate_scale = hyper.learning_rate_scale;
  group.weight_decay = hyper.weight_decay;
  group.beta1 = hyper.beta1;
  group.beta2 = hyper.beta2;
  group.epsilon = hyper.epsilon;
  group.decay_norms_and_biases = hyper.decay_norms_and_biases != 0;
  if (hyper.own_algorithm >= 0) {
    group.algorithm = static_cast<Algorithm>(hyper.own_algorithm);
  }
  for (int i = 0; i < hyper.num_patterns; ++i) {
    group.patterns.emplace_back(StringOr(hyper.patterns[i], ""));
  }
  return group;
}

OptimizerOptions FromC(const zeromini_options& given) {
  const zeromini_options from = Complete(given, zeromini_options_init);
  OptimizerOptions options;
  options.algorithm = static_cast<Algorithm>(from.algorithm);
  options.stage = from.stage;
  if (from.groups != nullptr) {
    options.groups.clear();
    const char* next = reinterpret_cast<const char*>(from.groups);
    for (int i = 0; i < from.num_groups; ++i) {
      const auto& hyper = *reinterpret_cast<const zeromini_hyper*>(next);
      options.groups.push_back(FromC(hyper));
      next += hyper.struct_size;
    }
  }
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
  options.kernels = StringOr(from.kernels, "cpu");
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
  return options;
}

StepOptions FromC(const zeromini_step_options& given) {
  const zeromini_step_options from =
      Complete(given, zeromini_step_options_init);
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
  const size_t length =
      std::min(from.skipped_because.size(), sizeof(result.skipped_because) - 1);
  std::memcpy(result.skipped_because, from.skipped_because.data(), length);
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

void zeromini_param_init(zeromini_param* param, size_t struct_size) {
  const zeromini::ParamSpec spec;
  zeromini_param defaults = {};
  defaults.slices = spec.slices;
  defaults.layer = spec.layer;
  defaults.gather_group = spec.gather_group;
  defaults.group = spec.group;
  zeromini::c_api::Init(defaults, param, struct_size);
}

void zeromini_hyper_init(zeromini_hyper* hyper, size_t struct_size) {
  const zeromini::ParamGroup group;
  zeromini_hyper defaults = {};
  defaults.name = "default";
  defaults.learning_rate_scale = group.learning_rate_scale;
  defaults.weight_decay = group.weight_decay;
  defaults.beta1 = group.beta1;
  defaults.beta2 = group.beta2;
  defaults.epsilon = group.epsilon;
  defaults.decay_norms_and_biases = group.decay_norms_and_biases ? 1 : 0;
  defaults.own_algorithm = -1;
  zeromini::c_api::Init(defaults, hyper, struct_size);
}

void zeromini_options_init(zeromini_options* options, size_t struct_size) {
  const zeromini::OptimizerOptions from;
  zeromini_options defaults = {};
  defaults.algorithm = static_cast<zeromini_algorithm>(from.algorithm);
  defaults.stage = from.stage;
  defaults.reduction = static_cast<zeromini_reduction>(from.reduction);
  defaults.max_grad_norm = from.max_grad_norm;
  defaults.check_finite = from.check_finite ? 1 : 0;
  defaults.non_finite = static_cast<zeromini_on_bad_gradient>(from.non_finite);
  defaults.absent_gradients =
      static_cast<zeromini_on_bad_gradient>(from.absent_gradients);
  defaults.micro_steps = from.micro_steps;
  defaults.memory = static_cast<zeromini_memory_form>(from.memory);
  defaults.naming = static_cast<zeromini_naming>(from.naming);
  defaults.value_blocks = static_cast<zeromini_value_blocks>(from.value_blocks);
  defaults.bucket_bytes = from.bucket_bytes;
  defaults.kernels = "cpu";
  defaults.gradient_wire = static_cast<zeromini_dtype>(from.gradient_wire);
  defaults.weight_wire = static_cast<zeromini_dtype>(from.weight_wire);
  defaults.skip_above_grad_norm = from.skip_above_grad_norm;
  defaults.max_grad_value = from.max_grad_value;
  defaults.master = static_cast<zeromini_master_format>(from.master);
  defaults.state = static_cast<zeromini_state_format>(from.state);
  defaults.gather_budget_bytes = from.gather_budget_bytes;
  defaults.prefetch = from.prefetch;
  defaults.shard_ranks = from.shard_ranks;
  defaults.expert_slices = from.expert_slices;
  zeromini::c_api::Init(defaults, options, struct_size);
}

void zeromini_step_options_init(zeromini_step_options* options,
                                size_t struct_size) {
  zeromini_step_options defaults = {};
  defaults.wait = 1;
  defaults.loss_scale = 1;
  zeromini::c_api::Init(defaults, options, struct_size);
}

void zeromini_step_report_init(zeromini_step_report* report,
                               size_t struct_size) {
  zeromini::c_api::Init(zeromini_step_report{}, report, struct_size);
}

void zeromini_level_traffic_init(zeromini_level_traffic* traffic,
                                 size_t struct_size) {
  zeromini::c_api::Init(zeromini_level_traffic{}, traffic, struct_size);
}

void zeromini_memory_report_init(zeromini_memory_report* report,
                                 size_t struct_size) {
  zeromini::c_api::Init(zeromini_memory_report{}, report, struct_size);
}
