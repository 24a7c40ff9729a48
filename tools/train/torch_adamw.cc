#include <chrono>
#include <cmath>
#include <exception>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/train/train_optimizer.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

class TorchAdamW : public TrainOptimizer {
 public:
  TorchAdamW(LanguageModel& model, const PretrainOptions& options)
      : options_(options) {
    std::vector<torch::Tensor> decayed, plain;
    for (const auto& item : model.named_parameters()) {
      bool listed = false;
      for (const torch::Tensor& earlier : all_) {
        listed = listed || earlier.is_same(item.value());
      }
      if (listed) continue;
      all_.push_back(item.value());
      // As our default: norms and biases, the 1-D tensors, do not decay.
      (item.value().dim() > 1 ? decayed : plain).push_back(item.value());
    }
    auto base = torch::optim::AdamWOptions(options.schedule.peak)
                    .betas({options.beta1, options.beta2})
                    .eps(options.epsilon)
                    .weight_decay(options.weight_decay);
    std::vector<torch::optim::OptimizerParamGroup> groups;
    groups.emplace_back(decayed,
                        std::make_unique<torch::optim::AdamWOptions>(base));
    groups.emplace_back(plain, std::make_unique<torch::optim::AdamWOptions>(
                                   base.weight_decay(0)));
    adamw_ = std::make_unique<torch::optim::AdamW>(groups, base);
  }

  absl::Status Backward(const torch::Tensor& loss) override {
    (loss / static_cast<double>(options_.micro_steps)).backward();
    return absl::OkStatus();
  }

  absl::StatusOr<StepReport> Step(double learning_rate) override {
    const auto begin = std::chrono::steady_clock::now();
    StepReport report;
    report.step = ++steps_;
    report.grad_norm = GradNorm();
    if (options_.clip > 0) {
      torch::nn::utils::clip_grad_norm_(all_, options_.clip);
    }
    for (auto& group : adamw_->param_groups()) {
      group.options().set_lr(learning_rate);
    }
    adamw_->step();
    for (torch::Tensor& tensor : all_) tensor.mutable_grad() = torch::Tensor();
    report.seconds_total =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin)
            .count();
    report.seconds_update = report.seconds_total;
    return report;
  }

  MemoryReport Memory() const override {
    MemoryReport memory;
    for (const torch::Tensor& tensor : all_) {
      const int64_t bytes = tensor.numel() * int64_t{sizeof(float)};
      memory.gradients += bytes;
      memory.momentum += bytes;
      memory.second_moment += bytes;
    }
    return memory;
  }

  Traffic traffic() const override { return {}; }
  absl::Status Close() override { return absl::OkStatus(); }

 private:
  double GradNorm() const {
    double sum = 0;
    for (const torch::Tensor& tensor : all_) {
      if (!tensor.grad().defined()) continue;
      const double norm = tensor.grad().norm().item<float>();
      sum += norm * norm;
    }
    return std::sqrt(sum);
  }

  PretrainOptions options_;
  std::vector<torch::Tensor> all_;
  std::unique_ptr<torch::optim::AdamW> adamw_;
  int64_t steps_ = 0;
};

// Flags that only the sharded optimizer honours.
absl::Status RefuseSharding(const PretrainOptions& options) {
  const PretrainOptions defaults;
  const auto refuse = [](const char* flag) {
    return absl::InvalidArgumentError(
        absl::StrCat("--optimizer torch-adamw is the unsharded fp32 reference "
                     "and has no ",
                     flag));
  };
  if (options.dtype != defaults.dtype) return refuse("--dtype but fp32");
  if (options.master != defaults.master) return refuse("--master");
  if (options.momentum != defaults.momentum) return refuse("--momentum");
  if (options.stage == 3) return refuse("--stage 3");
  if (options.shard_group != 0) return refuse("--shard-group");
  if (options.clip_value != 0) return refuse("--clip-value");
  if (options.gather_budget != 0) return refuse("--gather-budget");
  if (options.prefetch != defaults.prefetch) return refuse("--prefetch");
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<TrainOptimizer>> MakeTorchAdamW(
    LanguageModel& model, const PretrainOptions& options, Communicator& group) {
  if (group.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--optimizer torch-adamw is the unsharded reference and "
                     "runs on 1 rank, not ",
                     group.size()));
  }
  if (options.gradient_wire != "fp32" || options.weight_wire != "fp32") {
    return absl::InvalidArgumentError(
        absl::StrCat("--optimizer torch-adamw sends nothing: --gradient-wire ",
                     options.gradient_wire, " and --weight-wire ",
                     options.weight_wire, " must both be fp32"));
  }
  ZEROMINI_RETURN_IF_ERROR(RefuseSharding(options));
  ZEROMINI_RETURN_IF_ERROR(CheckTrainable(model));
  return std::make_unique<TorchAdamW>(model, options);
}

}  // namespace zeromini::tools
