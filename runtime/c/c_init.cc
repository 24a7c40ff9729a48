// The defaults of c.h's structs: those of the C++ API.

#include <algorithm>
#include <cstring>

#include "absl/time/time.h"
#include "runtime/c/c_check.h"
#include "zeromini/c.h"
#include "zeromini/group.h"
#include "zeromini/optimizer.h"
#include "zeromini/plan.h"

namespace {

// Defaults, cut to the program's size. A size that the struct cannot have is
// kept, and nothing else: every call refuses it.
template <typename T>
void Init(T defaults, T* to, size_t struct_size) {
  if (to == nullptr || struct_size < sizeof(size_t)) return;
  if (!zeromini::c_api::IsSize(struct_size,
                               zeromini::c_api::Sized<T>::kFirst)) {
    std::memcpy(to, &struct_size, sizeof(size_t));
    return;
  }
  std::memset(to, 0, struct_size);
  defaults.struct_size = struct_size;
  std::memcpy(to, &defaults, std::min(sizeof(T), struct_size));
}

// What the options of an optimizer and of a plan say of the layout.
template <typename From, typename To>
void InitLayout(const From& from, To* to) {
  to->blocks = static_cast<zeromini_block_cuts>(from.blocks);
  to->bucketing = static_cast<zeromini_bucketing>(from.bucketing);
  to->second_moment = static_cast<zeromini_second_moment>(from.second_moment);
  to->bucket_bytes = from.bucket_bytes;
  to->buffer_budget_bytes = from.buffer_budget_bytes;
  to->copy_cost = from.copy_cost;
  to->collective_cost_bytes = from.collective_cost_bytes;
}

}  // namespace

void zeromini_param_init(zeromini_param* param, size_t struct_size) {
  const zeromini::ParamSpec spec;
  zeromini_param defaults = {};
  defaults.slices = spec.slices;
  defaults.layer = spec.layer;
  defaults.layer_set = spec.layer_set;
  defaults.hyper_group = spec.hyper_group;
  Init(defaults, param, struct_size);
}

void zeromini_hyper_group_init(zeromini_hyper_group* hyper,
                               size_t struct_size) {
  const zeromini::HyperGroup group;
  zeromini_hyper_group defaults = {};
  defaults.name = "default";
  defaults.learning_rate_scale = group.learning_rate_scale;
  defaults.weight_decay = group.weight_decay;
  defaults.beta1 = group.beta1;
  defaults.beta2 = group.beta2;
  defaults.epsilon = group.epsilon;
  defaults.decay_norms_and_biases = group.decay_norms_and_biases ? 1 : 0;
  defaults.own_algorithm = -1;
  Init(defaults, hyper, struct_size);
}

void zeromini_options_init(zeromini_options* options, size_t struct_size) {
  const zeromini::OptimizerOptions from;
  zeromini_options defaults = {};
  defaults.algorithm = static_cast<zeromini_algorithm>(from.algorithm);
  defaults.stage = from.stage;
  defaults.reduction = static_cast<zeromini_reduction>(from.reduction);
  defaults.max_grad_norm = from.max_grad_norm;
  defaults.non_finite = static_cast<zeromini_on_bad_gradient>(from.non_finite);
  defaults.absent_gradients =
      static_cast<zeromini_on_bad_gradient>(from.absent_gradients);
  defaults.micro_steps = from.micro_steps;
  defaults.memory = static_cast<zeromini_memory_form>(from.memory);
  defaults.naming = static_cast<zeromini_naming>(from.naming);
  defaults.value_blocks = static_cast<zeromini_value_blocks>(from.value_blocks);
  defaults.device = static_cast<zeromini_device>(from.device);
  defaults.kernels = static_cast<zeromini_kernels>(from.kernels);
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
  InitLayout(from, &defaults);
  Init(defaults, options, struct_size);
}

void zeromini_group_options_init(zeromini_group_options* options,
                                 size_t struct_size) {
  zeromini_group_options defaults = {};
  defaults.timeout_seconds =
      absl::ToDoubleSeconds(zeromini::GroupOptions().timeout);
  Init(defaults, options, struct_size);
}

void zeromini_plan_options_init(zeromini_plan_options* options,
                                size_t struct_size) {
  const zeromini::PlanOptions from;
  zeromini_plan_options defaults = {};
  defaults.algorithm = static_cast<zeromini_algorithm>(from.algorithm);
  defaults.ranks = from.ranks;
  defaults.replicas = from.replicas;
  defaults.stage = from.stage;
  defaults.naming = static_cast<zeromini_naming>(from.naming);
  defaults.value_blocks = static_cast<zeromini_value_blocks>(from.value_blocks);
  defaults.memory = static_cast<zeromini_memory_form>(from.memory);
  InitLayout(from, &defaults);
  Init(defaults, options, struct_size);
}

void zeromini_step_options_init(zeromini_step_options* options,
                                size_t struct_size) {
  const zeromini::StepOptions from;
  zeromini_step_options defaults = {};
  defaults.learning_rate = from.learning_rate;
  defaults.wait = from.wait ? 1 : 0;
  defaults.loss_scale = from.loss_scale;
  Init(defaults, options, struct_size);
}

void zeromini_step_report_init(zeromini_step_report* report,
                               size_t struct_size) {
  Init(zeromini_step_report{}, report, struct_size);
}

void zeromini_level_traffic_init(zeromini_level_traffic* traffic,
                                 size_t struct_size) {
  Init(zeromini_level_traffic{}, traffic, struct_size);
}

void zeromini_step_bytes_init(zeromini_step_bytes* bytes, size_t struct_size) {
  Init(zeromini_step_bytes{}, bytes, struct_size);
}

void zeromini_memory_report_init(zeromini_memory_report* report,
                                 size_t struct_size) {
  Init(zeromini_memory_report{}, report, struct_size);
}
