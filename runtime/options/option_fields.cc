#include "runtime/options/option_fields.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace zeromini {
namespace {

class FieldList {
 public:
  void Add(const std::string& name, const std::string& value) {
    fields_.push_back({prefix_ + name, value});
  }
  void Add(const std::string& name, const char* value) {
    Add(name, std::string(value));
  }
  void Add(const std::string& name, int64_t value) {
    Add(name, absl::StrCat(value));
  }
  void Add(const std::string& name, double value) {
    Add(name, std::isnan(value) ? "NaN" : absl::StrFormat("%.17g", value));
  }
  void set_prefix(const std::string& prefix) { prefix_ = prefix; }
  std::vector<OptionField> Take() { return std::move(fields_); }

 private:
  std::string prefix_;
  std::vector<OptionField> fields_;
};

const char* NameOf(NonFiniteGradients choice) {
  switch (choice) {
    case NonFiniteGradients::kError:
      return "error";
    case NonFiniteGradients::kSkip:
      return "skip";
    case NonFiniteGradients::kIgnore:
      return "ignore";
  }
  return "unknown";
}

void AddPlanFields(const OptimizerOptions& options, FieldList* list) {
  list->Add("algorithm", AlgorithmName(options.algorithm));
  list->Add("stage", int64_t{options.stage});
  list->Add("shard_ranks", int64_t{options.shard_ranks});
  list->Add("expert_slices", int64_t{options.expert_slices});
  list->Add("hidden", options.model.hidden);
  list->Add("heads", options.model.heads);
  list->Add("kv_heads", options.model.kv_heads);
  list->Add("head_dim", options.model.head_dim);
  list->Add("naming",
            options.naming == Naming::kOfficial ? "official" : "zeromini");
  list->Add("value_blocks",
            options.value_blocks == ValueBlocks::kWhole ? "whole" : "rows");
  list->Add("second_moment", SecondMomentName(options.second_moment));
  list->Add("blocks", options.blocks == BlockCuts::kSplitAtCuts
                          ? "split at cuts"
                          : "whole");
  list->Add("bucketing",
            options.bucketing == Bucketing::kByLayer ? "by layer" : "cheapest");
  list->Add("bucket_bytes", options.bucket_bytes);
  list->Add("buffer_budget_bytes", options.buffer_budget_bytes);
  list->Add("copy_cost", options.copy_cost);
  list->Add("collective_cost_bytes", options.collective_cost_bytes);
}

void AddStepFields(const OptimizerOptions& options, FieldList* list) {
  list->Add("reduction", options.reduction == Reduction::kSum ? "sum" : "mean");
  list->Add("max_grad_norm", options.max_grad_norm);
  list->Add("max_grad_value", options.max_grad_value);
  list->Add("non_finite", NameOf(options.non_finite));
  list->Add("skip_above_grad_norm", options.skip_above_grad_norm);
  list->Add(
      "absent_gradients",
      options.absent_gradients == AbsentGradients::kSkip ? "skip" : "error");
  list->Add("micro_steps", int64_t{options.micro_steps});
  list->Add("gradient_wire", DTypeName(options.gradient_wire));
  list->Add("weight_wire", DTypeName(options.weight_wire));
  list->Add("device", DeviceKindName(options.device));
  list->Add("kernels", options.kernels == KernelChoice::kReference ? "reference"
                                                                   : "native");
}

void AddMemoryFields(const OptimizerOptions& options, FieldList* list) {
  list->Add("memory",
            options.memory == MemoryForm::kFlat ? "flat" : "external");
  list->Add("master", MasterFormatName(options.master));
  list->Add("state", StateFormatName(options.state));
  list->Add("gather_budget_bytes", options.gather_budget_bytes);
  list->Add("prefetch", int64_t{options.prefetch});
}

void AddGroupFields(const HyperGroup& group, FieldList* list) {
  list->Add("algorithm",
            group.algorithm ? AlgorithmName(*group.algorithm) : "the options'");
  list->Add("learning_rate_scale", group.learning_rate_scale);
  list->Add("weight_decay", group.weight_decay);
  list->Add("beta1", group.beta1);
  list->Add("beta2", group.beta2);
  list->Add("epsilon", group.epsilon);
  list->Add("decay_norms_and_biases", int64_t{group.decay_norms_and_biases});
}

}  // namespace

std::vector<OptionField> OptionFields(const OptimizerOptions& options) {
  FieldList list;
  AddPlanFields(options, &list);
  AddStepFields(options, &list);
  AddMemoryFields(options, &list);
  list.Add("hyper_groups", static_cast<int64_t>(options.hyper_groups.size()));
  for (size_t g = 0; g < options.hyper_groups.size(); ++g) {
    list.set_prefix(absl::StrCat("hyper group ", g, ": "));
    AddGroupFields(options.hyper_groups[g], &list);
  }
  return list.Take();
}

std::vector<OptionField> StepFields(const StepOptions& step, int64_t steps_done,
                                    absl::Span<const HyperGroup> groups) {
  FieldList list;
  if (std::isnan(step.learning_rate)) {
    list.Add("learning_rate", "not given (NaN)");
  } else {
    list.Add("learning_rate", step.learning_rate);
  }
  list.Add("loss_scale", step.loss_scale);
  list.Add("steps done", steps_done);
  for (size_t g = 0; g < groups.size(); ++g) {
    list.set_prefix(absl::StrCat("hyper group ", g, ": "));
    AddGroupFields(groups[g], &list);
  }
  return list.Take();
}

}  // namespace zeromini
