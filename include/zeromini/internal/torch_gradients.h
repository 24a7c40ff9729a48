// TorchOptimizer's way of a gradient, from torch's hook to Step().
// Included by zeromini/torch.h, at its end.
//
// Before a pass adds to .grad(), it is undefined; so after that it is what this
// pass gave, whatever happened before. It is taken away at once.

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

inline void TorchOptimizer::BeforeGradient(int index) {
  Entry& entry = entries_[index];
  bool first = false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    first = entry.passes == 0;
  }
  if (first) return;
  Keep(internal::Guarded([&] { return CheckGradient(entry); }));
  entry.tensor.mutable_grad() = torch::Tensor();
}

inline void TorchOptimizer::OnGradient(int index,
                                       const torch::Tensor& received) {
  Entry& entry = entries_[index];
  int pass = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    pass = ++entry.passes;
    if (!hook_status_.ok()) return;
    if (pass > micro_steps_) {
      hook_status_ = absl::FailedPreconditionError(
          absl::StrCat("parameter '", entry.name, "': backward pass ", pass,
                       " before Step(), but micro_steps is ", micro_steps_));
      return;
    }
  }
  Keep(internal::Guarded([&] { return Take(index, pass, received); }));
}

inline absl::Status TorchOptimizer::Take(int index, int pass,
                                         const torch::Tensor& received) {
  torch::NoGradGuard no_grad;
  Entry& entry = entries_[index];
  const absl::Status memory = CheckMemory(entry);
  if (!memory.ok()) return memory;
  torch::Tensor grad = entry.tensor.grad();
  if (!grad.defined() || grad.is_meta()) {
    return absl::FailedPreconditionError(absl::StrCat(
        "parameter '", entry.name,
        "': its gradient has been taken before this optimizer's hook; is "
        "another TorchOptimizer still attached?"));
  }
  if (grad.is_sparse() || grad.scalar_type() != entry.dtype) {
    return absl::InvalidArgumentError(absl::StrCat(
        "parameter '", entry.name,
        "': its gradient is sparse or of another dtype than the parameter"));
  }
  const bool own = grad.is_contiguous() && internal::OwnsMemory(grad, received);
  // Freed with `grad`, so that full gradients never exist all at once.
  entry.tensor.mutable_grad() = entry.taken;
  entry.taken_version = internal::VersionOf(entry.taken);
  grad = grad.detach().contiguous();
  if (!local_) return optimizer_->GradReady(index, grad.data_ptr());
  if (entry.sum.defined()) {
    entry.sum.add_(grad);
  } else if (entry.home.defined()) {
    entry.sum = entry.home.copy_(grad);
  } else {
    entry.sum = own ? grad : grad.clone();
  }
  return pass < micro_steps_ ? absl::OkStatus() : GiveSum(index);
}

inline absl::Status TorchOptimizer::GiveSum(int index) {
  torch::NoGradGuard no_grad;
  Entry& entry = entries_[index];
  if (scale_ != 1) entry.sum.mul_(scale_);
  const absl::Status status = optimizer_->GradReady(
      index, entry.home.defined() ? nullptr : entry.sum.data_ptr());
  entry.sum = torch::Tensor();
  return status;
}

inline absl::Status TorchOptimizer::GiveLate(int index) {
  Entry& entry = entries_[index];
  if (local_) return GiveSum(index);
  const torch::Tensor zeros =
      torch::zeros(entry.tensor.sizes(), entry.tensor.scalar_type());
  for (int pass = entry.passes; pass < micro_steps_; ++pass) {
    const absl::Status status = optimizer_->GradReady(index, zeros.data_ptr());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// In the order in which buckets leave: the other one would fill them all.
inline absl::Status TorchOptimizer::GiveAllLate() {
  for (size_t i = entries_.size(); i-- > 0;) {
    const int passes = entries_[i].passes;
    if (passes == 0 || passes == micro_steps_) continue;
    const absl::Status status = GiveLate(static_cast<int>(i));
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

inline void TorchOptimizer::ClearGradients() {
  for (Entry& entry : entries_) {
    entry.passes = 0;
    entry.sum = torch::Tensor();
    entry.tensor.mutable_grad() = torch::Tensor();
  }
}

// The other ranks are on their way into the step. One without a learning rate
// is refused on all of them, and leaves the group as it is.
inline absl::Status TorchOptimizer::Refuse(const absl::Status& why) {
  absl::Status released = sharded_
                              ? internal::Guarded([&] { return HideAll(); })
                              : absl::OkStatus();
  if (released.ok()) {
    const auto refused = optimizer_->Step(StepOptions());
    if (!absl::IsInvalidArgument(refused.status()) &&
        !absl::IsFailedPrecondition(refused.status())) {
      released = refused.status();
    }
  } else {
    group_.Abort(why);
  }
  const absl::Status cleared = internal::Guarded([&] {
    ClearGradients();
    // Told once: what was written to gathered weights is gone.
    if (sharded_) RecordWeights();
    return absl::OkStatus();
  });
  if (!released.ok()) {
    return absl::Status(
        why.code(),
        absl::StrCat(why.message(), "; the group of ranks is broken now: ",
                     released.message()));
  }
  return cleared.ok() ? why : cleared;
}

inline absl::StatusOr<StepReport> TorchOptimizer::Step(
    const StepOptions& options) {
  if (detached_) {
    return absl::FailedPreconditionError("the module has been detached");
  }
  absl::Status before = status();
  if (before.ok()) {
    const absl::Status module =
        internal::Guarded([&] { return CheckModule(); });
    if (!module.ok()) return Refuse(module);
    before = internal::Guarded([&] { return GiveAllLate(); });
  }
  if (before.ok() && sharded_) {
    before = internal::Guarded([&] { return ReleaseAll(); });
  }
  if (!before.ok()) {
    group_.Abort(before);
    return before;
  }
  StepOptions waiting = options;
  waiting.wait = true;
  absl::StatusOr<StepReport> report = optimizer_->Step(waiting);
  const absl::Status cleared = internal::Guarded([&] {
    ClearGradients();
    if (report.ok()) RecordWeights();
    return absl::OkStatus();
  });
  if (!cleared.ok()) return cleared;
  return report;
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_GRADIENTS_H_
