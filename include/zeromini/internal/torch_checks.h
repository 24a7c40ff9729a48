// Whether a module is still as TorchOptimizer took it over. Included by
// zeromini/torch.h, at its end.

#ifndef ZEROMINI_INTERNAL_TORCH_CHECKS_H_
#define ZEROMINI_INTERNAL_TORCH_CHECKS_H_

#include "zeromini/torch.h"

namespace zeromini {

inline absl::Status TorchOptimizer::CheckGradient(const Entry& entry) const {
  const torch::Tensor& grad = entry.tensor.grad();
  if (grad.is_same(entry.taken) &&
      internal::VersionOf(grad) == entry.taken_version) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "parameter '", entry.name,
      "': .grad() was changed or reset after a backward pass and before "
      "Step(), but the gradient had been taken by then. Clip with "
      "OptimizerOptions::max_grad_norm or max_grad_value, divide by "
      "StepOptions::loss_scale, and call zero_grad() only after Step(), or "
      "never"));
}

inline absl::Status TorchOptimizer::CheckMemory(const Entry& entry) const {
  const torch::Tensor& tensor = entry.tensor;
  constexpr char kCure[] =
      "copy new values into it with copy_() under a NoGradGuard and call "
      "BroadcastWeights(), or Detach() before the change and AttachTorch() "
      "again "
      "after it, which starts with new momentum";
  if (tensor.scalar_type() != entry.dtype) {
    return absl::FailedPreconditionError(absl::StrCat(
        "parameter '", entry.name, "' is ", c10::toString(tensor.scalar_type()),
        " but was ", c10::toString(entry.dtype), " at AttachTorch() (to()?); ",
        kCure));
  }
  const void* storage = internal::StorageOf(tensor);
  const bool own = storage == entry.storage.unsafeGetStorageImpl();
  const bool in_place = entry.whole.defined()
                            ? own || storage == nullptr
                            : own && internal::DataOf(tensor) == entry.data &&
                                  tensor.is_contiguous();
  // Torch drops an accumulator when a tensor changes its dtype or device.
  const bool heard =
      !entry.accumulator || !tensor.requires_grad() ||
      torch::autograd::impl::try_get_grad_accumulator(tensor).get() ==
          entry.accumulator.get();
  if (in_place && heard) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "parameter '", entry.name,
      "' is no longer in the memory that the optimizer trains (set_data(), "
      "set_(), to() or Module::load() since AttachTorch()); ",
      kCure));
}

// What is frozen for a while is absent; where that is an error, this is why.
inline absl::Status TorchOptimizer::CheckTrains(const Entry& entry) const {
  if (skips_absent_ || entry.passes > 0 || entry.tensor.requires_grad()) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "parameter '", entry.name,
      "' requires no gradient, but did at AttachTorch(). Detach() and "
      "AttachTorch() again, or let OptimizerOptions::absent_gradients be "
      "kSkip"));
}

inline absl::Status TorchOptimizer::CheckWeights(const Entry& entry) const {
  if (!entry.has_copy ||
      internal::VersionOf(entry.tensor) == entry.weight_version) {
    return absl::OkStatus();
  }
  return absl::FailedPreconditionError(absl::StrCat(
      "parameter '", entry.name,
      "': its weights were changed in place since the last step, but the next "
      "update would start from the optimizer's own copy and undo that. ",
      sharded_ ? "At stage 3 give new weights to optimizer().SetParam()"
               : "Call BroadcastWeights() after such a change, or swap with "
                 "set_data(), and back"));
}

inline void TorchOptimizer::RecordWeights() {
  for (Entry& entry : entries_) {
    entry.weight_version = internal::VersionOf(entry.tensor);
  }
}

inline absl::Status TorchOptimizer::BroadcastWeights() {
  if (detached_) {
    return absl::FailedPreconditionError("the module has been detached");
  }
  if (sharded_) {
    return absl::FailedPreconditionError(
        "at stage 3 no rank has whole weights to broadcast; use "
        "optimizer().SetParam()");
  }
  const absl::Status sent = optimizer_->BroadcastParams();
  if (sent.ok()) RecordWeights();
  return sent;
}

inline absl::Status TorchOptimizer::CheckRegistered() const {
  const std::shared_ptr<torch::nn::Module> shared = shared_module_.lock();
  torch::nn::Module* module = module_ != nullptr ? module_ : shared.get();
  if (module == nullptr) return absl::OkStatus();  // Nobody can reach it.
  for (const auto& item : module->named_parameters()) {
    const torch::Tensor& tensor = item.value();
    if (!tensor.requires_grad() || tensor.numel() == 0) continue;
    if (settled_.count(tensor.unsafeGetTensorImpl()) > 0) continue;
    if (include_ && !include_(item.key(), tensor)) continue;
    return absl::FailedPreconditionError(absl::StrCat(
        "parameter '", item.key(),
        "' requires a gradient, but was frozen or not there at AttachTorch(), "
        "so it would never train. Detach() and AttachTorch() again, or leave "
        "it out with TorchAttachOptions::include"));
  }
  return absl::OkStatus();
}

inline absl::Status TorchOptimizer::CheckModule() const {
  for (const Entry& entry : entries_) {
    if (!entry.trains) continue;
    absl::Status status = CheckMemory(entry);
    if (status.ok()) status = CheckTrains(entry);
    if (status.ok()) status = CheckWeights(entry);
    if (status.ok() && entry.passes > 0) status = CheckGradient(entry);
    if (!status.ok()) return status;
  }
  return CheckRegistered();
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_CHECKS_H_
