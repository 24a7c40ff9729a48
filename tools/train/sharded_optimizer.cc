#include <exception>

#include "absl/strings/str_cat.h"
#include "tools/train/train_optimizer.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/torch.h"

namespace zeromini::tools {
namespace {

class Sharded : public TrainOptimizer {
 public:
  explicit Sharded(std::unique_ptr<TorchOptimizer> attached)
      : attached_(std::move(attached)) {}

  absl::Status Backward(const torch::Tensor& loss) override {
    loss.backward();
    return absl::OkStatus();
  }

  absl::StatusOr<StepReport> Step(double learning_rate) override {
    StepOptions options;
    options.learning_rate = learning_rate;
    return attached_->Step(options);
  }

  MemoryReport Memory() const override {
    return attached_->optimizer().Memory();
  }

  Traffic traffic() const override { return attached_->optimizer().traffic(); }

  absl::Status Close() override { return attached_->optimizer().Close(); }

 private:
  std::unique_ptr<TorchOptimizer> attached_;
};

absl::StatusOr<DType> WireFormat(const char* flag, const std::string& name) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " must be fp32 or bf16, not ", name));
}

absl::StatusOr<OptimizerOptions> CoreOptions(const PretrainOptions& options) {
  OptimizerOptions core;
  ZEROMINI_ASSIGN_OR_RETURN(core.algorithm, ParseAlgorithm(options.optimizer));
  if (options.value_blocks != "rows" && options.value_blocks != "whole") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--value-blocks must be rows or whole, not ", options.value_blocks));
  }
  core.value_blocks =
      options.value_blocks == "rows" ? ValueBlocks::kRows : ValueBlocks::kWhole;
  core.memory =
      options.memory == "external" ? MemoryForm::kExternal : MemoryForm::kFlat;
  ZEROMINI_ASSIGN_OR_RETURN(
      core.gradient_wire, WireFormat("--gradient-wire", options.gradient_wire));
  ZEROMINI_ASSIGN_OR_RETURN(core.weight_wire,
                            WireFormat("--weight-wire", options.weight_wire));
  core.stage = options.stage;
  core.max_grad_norm = options.clip;
  core.skip_above_grad_norm = options.skip_above;
  core.micro_steps = static_cast<int>(options.micro_steps);
  core.model.hidden = options.model.hidden;
  core.model.heads = options.model.heads;
  core.model.kv_heads = options.model.kv_heads;
  core.model.head_dim = options.model.head_dim;
  ParamGroup& group = core.groups.front();
  group.weight_decay = options.weight_decay;
  group.beta1 = options.beta1;
  group.beta2 = options.beta2;
  group.epsilon = options.epsilon;
  return core;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainOptimizer>> MakeSharded(
    LanguageModel& model, const PretrainOptions& options, Communicator& group) {
  ZEROMINI_ASSIGN_OR_RETURN(const OptimizerOptions core, CoreOptions(options));
  TorchAttachOptions attach;
  if (options.model.architecture == Architecture::kGpt2) {
    // Conv1D: every matrix of a block is stored [in, out].
    attach.adjust = [](ParamSpec& spec) {
      spec.output_is_last =
          spec.shape.size() == 2 && spec.name.find(".h.") != std::string::npos;
    };
  }
  ZEROMINI_ASSIGN_OR_RETURN(auto attached,
                            AttachTorch(model, core, group, attach));
  return std::make_unique<Sharded>(std::move(attached));
}

}  // namespace zeromini::tools
