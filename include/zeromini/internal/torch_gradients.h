// TorchOptimizer's way of a gradient, from torch's hook to Step().
// Included by zeromini/torch.h, at its end.

#ifndef ZEROMINI_INTERNAL_TORCH_GRADIENTS_H_
#define ZEROMINI_INTERNAL_TORCH_GRADIENTS_H_

#include "zeromini/torch.h"

namespace zeromini {

inline void TorchOptimizer::Keep(const absl::Status& status) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (hook_status_.ok()) hook_status_ = status;
}

inline absl::Status TorchOptimizer::status() const {
  std::lock_guard<std::mutex> lock(mutex_);
  return hook_status_;
}

inline void TorchOptimizer::OnGradient(int index) {
  Entry& entry = entries_[index];
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++entry.passes;
    if (!hook_status_.ok()) return;
    if (local_ && entry.passes < micro_steps_) return;
    if (entry.passes > micro_steps_) {
      hook_status_ = absl::FailedPreconditionError(absl::StrCat(
          "parameter '", entry.name, "': backward pass ", entry.passes,
          " before Step(), but micro_steps is ", micro_steps_));
      return;
    }
  }
  Keep(internal::Guarded([&] { return Deliver(index); }));
}

inline absl::Status TorchOptimizer::Deliver(int index) {
  torch::NoGradGuard no_grad;
  Entry& entry = entries_[index];
  torch::Tensor grad = entry.tensor.grad();
  if (!grad.defined()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "parameter '", entry.name, "': its gradient was reset before Step()"));
  }
  if (grad.is_sparse() || grad.scalar_type() != entry.tensor.scalar_type()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "parameter '", entry.name,
        "': its gradient is sparse or of another dtype than the parameter"));
  }
  grad = grad.contiguous();
  if (scale_ != 1) grad.mul_(scale_);
  const bool in_place = entry.flat_grad.defined() &&
                        entry.flat_grad.data_ptr() == grad.data_ptr();
  const absl::Status status =
      optimizer_->GradReady(index, in_place ? nullptr : grad.data_ptr());
  // Freed here, so that full gradients never exist all at once.
  if (!entry.flat_grad.defined()) entry.tensor.mutable_grad() = torch::Tensor();
  return status;
}

inline absl::Status TorchOptimizer::DeliverLate(int index) {
  Entry& entry = entries_[index];
  if (local_ || entry.flat_grad.defined()) {
    const int missing = local_ ? 1 : micro_steps_ - entry.passes;
    for (int i = 0; i < missing; ++i) {
      const absl::Status status = Deliver(index);
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }
  const torch::Tensor zeros =
      torch::zeros(entry.tensor.sizes(), entry.tensor.scalar_type());
  for (int pass = entry.passes; pass < micro_steps_; ++pass) {
    const absl::Status status = optimizer_->GradReady(index, zeros.data_ptr());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

inline absl::Status TorchOptimizer::DeliverAllLate() {
  for (size_t i = 0; i < entries_.size(); ++i) {
    const int passes = entries_[i].passes;
    if (passes == 0 || passes == micro_steps_) continue;
    const absl::Status status = DeliverLate(static_cast<int>(i));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

inline void TorchOptimizer::ClearGradients() {
  for (Entry& entry : entries_) {
    entry.passes = 0;
    if (entry.flat_grad.defined()) {
      entry.tensor.mutable_grad() = entry.flat_grad;
      entry.flat_grad.zero_();
    } else {
      entry.tensor.mutable_grad() = torch::Tensor();
    }
  }
}

inline absl::StatusOr<StepReport> TorchOptimizer::Step(
    const StepOptions& options) {
  if (detached_) {
    return absl::FailedPreconditionError("the module has been detached");
  }
  absl::Status before = status();
  if (before.ok()) before = internal::Guarded([&] { return DeliverAllLate(); });
  if (before.ok() && sharded_) before = ReleaseAll();
  if (!before.ok()) {
    group_.Abort(before);
    return before;
  }
  StepOptions waiting = options;
  waiting.wait = true;
  absl::StatusOr<StepReport> report = optimizer_->Step(waiting);
  const absl::Status cleared = internal::Guarded([&] {
    ClearGradients();
    return absl::OkStatus();
  });
  if (!cleared.ok()) return cleared;
  return report;
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_GRADIENTS_H_
