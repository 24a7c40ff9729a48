#include <exception>

#include "absl/strings/str_cat.h"
#include "tools/train/train_optimizer.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/loss_scale.h"
#include "zeromini/torch.h"

namespace zeromini::tools {
namespace {

// A layer of the model is a block, and a block is what is gathered together.
class Sharded : public TrainOptimizer, public BlockGate {
 public:
  Sharded(LanguageModel& model, std::unique_ptr<TorchOptimizer> attached,
          const PretrainOptions& options)
      : model_(model),
        attached_(std::move(attached)),
        gathers_(options.stage == 3),
        scales_(options.dtype == "fp16") {
    if (gathers_) model_.SetGate(this);
  }
  ~Sharded() override { model_.SetGate(nullptr); }

  torch::Tensor Before(int block, const torch::Tensor& x) override {
    return attached_->Before(block, x);
  }
  torch::Tensor After(int block, const torch::Tensor& x) override {
    return attached_->After(block, x);
  }

  absl::Status BeginForward() override {
    return gathers_ ? attached_->Gather(kNoLayerSet) : absl::OkStatus();
  }

  absl::Status EndEvaluation() override {
    ZEROMINI_RETURN_IF_ERROR(attached_->status());
    return gathers_ ? attached_->Release(kNoLayerSet) : absl::OkStatus();
  }

  absl::Status Backward(const torch::Tensor& loss) override {
    (scales_ ? loss * scale_.value() : loss).backward();
    return absl::OkStatus();
  }

  double loss_scale() const override { return scales_ ? scale_.value() : 1; }

  absl::StatusOr<StepReport> Step(double learning_rate) override {
    StepOptions options;
    options.learning_rate = learning_rate;
    options.loss_scale = loss_scale();
    ZEROMINI_ASSIGN_OR_RETURN(StepReport report, attached_->Step(options));
    if (scales_) ZEROMINI_RETURN_IF_ERROR(scale_.Update(report));
    return report;
  }

  Optimizer* sharded() override { return &attached_->optimizer(); }

  MemoryReport Memory() const override {
    return attached_->optimizer().Memory();
  }

  Traffic traffic() const override { return attached_->optimizer().traffic(); }

  absl::Status Close() override { return attached_->optimizer().Close(); }

 private:
  LanguageModel& model_;
  std::unique_ptr<TorchOptimizer> attached_;
  const bool gathers_;
  const bool scales_;
  LossScale scale_;
};

absl::StatusOr<DType> WireFormat(const char* flag, const std::string& name) {
  for (DType dtype : {DType::kFloat32, DType::kBFloat16}) {
    if (name == DTypeName(dtype)) return dtype;
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " must be fp32 or bf16, not ", name));
}

absl::Status SetFormats(const PretrainOptions& options,
                        OptimizerOptions& core) {
  ZEROMINI_ASSIGN_OR_RETURN(
      core.gradient_wire, WireFormat("--gradient-wire", options.gradient_wire));
  ZEROMINI_ASSIGN_OR_RETURN(core.weight_wire,
                            WireFormat("--weight-wire", options.weight_wire));
  ZEROMINI_ASSIGN_OR_RETURN(core.master, ParseMaster(options.master));
  ZEROMINI_ASSIGN_OR_RETURN(core.state, ParseMomentum(options.momentum));
  // A scale that grows until it is too large makes such steps by design.
  if (options.dtype == "fp16") core.non_finite = NonFiniteGradients::kSkip;
  return absl::OkStatus();
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
  ZEROMINI_ASSIGN_OR_RETURN(core.second_moment,
                            ParseSecondMoment(options.second_moment));
  core.memory =
      options.memory == "external" ? MemoryForm::kExternal : MemoryForm::kFlat;
  ZEROMINI_RETURN_IF_ERROR(SetFormats(options, core));
  core.stage = options.stage;
  core.shard_ranks = options.shard_group;
  core.gather_budget_bytes = options.gather_budget;
  core.prefetch = options.prefetch;
  core.max_grad_norm = options.clip;
  core.max_grad_value = options.clip_value;
  core.skip_above_grad_norm = options.skip_above;
  core.micro_steps = static_cast<int>(options.micro_steps);
  core.model.hidden = options.model.hidden;
  core.model.heads = options.model.heads;
  core.model.kv_heads = options.model.kv_heads;
  core.model.head_dim = options.model.head_dim;
  HyperGroup& group = core.hyper_groups.front();
  group.weight_decay = options.weight_decay;
  group.beta1 = options.beta1;
  group.beta2 = options.beta2;
  group.epsilon = options.epsilon;
  return core;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainOptimizer>> MakeSharded(
    LanguageModel& model, const PretrainOptions& options, Communicator& group) {
  ZEROMINI_RETURN_IF_ERROR(CheckTrainable(model));
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
  return std::make_unique<Sharded>(model, std::move(attached), options);
}

}  // namespace zeromini::tools
