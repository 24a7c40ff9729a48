// How TorchOptimizer takes a module over and leaves it again.
// Included by zeromini/torch.h, at its end.

#ifndef ZEROMINI_INTERNAL_TORCH_ATTACH_H_
#define ZEROMINI_INTERNAL_TORCH_ATTACH_H_

#include "zeromini/internal/torch_agreement.h"
#include "zeromini/torch.h"

namespace zeromini {

inline absl::StatusOr<std::vector<ParamSpec>> TorchOptimizer::Describe(
    torch::nn::Module& module, const TorchAttachOptions& attach) {
  std::vector<ParamSpec> specs;
  for (const auto& item : module.named_parameters()) {
    const torch::Tensor& tensor = item.value();
    bool listed = false;
    std::string owner;
    for (const Entry& earlier : entries_) {
      if (earlier.tensor.is_same(tensor)) listed = true;
      if (owner.empty() && tensor.numel() > 0 &&
          earlier.tensor.data_ptr() == tensor.data_ptr()) {
        owner = earlier.name;
      }
    }
    if (listed) continue;
    absl::StatusOr<ParamSpec> spec = internal::SpecOf(item.key(), tensor);
    if (!spec.ok()) return spec.status();
    spec->tied_to = owner;
    if (attach.adjust) attach.adjust(*spec);
    Entry entry;
    entry.name = item.key();
    entry.tensor = tensor;
    entry.tied = !owner.empty();
    entries_.push_back(std::move(entry));
    specs.push_back(*std::move(spec));
  }
  return specs;
}

inline absl::Status TorchOptimizer::MoveToFlatMemory() {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    const int index = static_cast<int>(i);
    void* data = optimizer_->ParamData(index);
    if (data == nullptr) continue;  // Only in shards: MoveToShards().
    const torch::Tensor view = torch::from_blob(data, entry.tensor.sizes(),
                                                entry.tensor.scalar_type());
    view.copy_(entry.tensor);
    entry.tensor.set_data(view);
    float* grad = optimizer_->GradData(index);
    if (grad == nullptr || entry.tied || !entry.tensor.requires_grad()) {
      continue;
    }
    entry.flat_grad =
        torch::from_blob(grad, entry.tensor.sizes(), torch::kFloat32);
  }
  return absl::OkStatus();
}

inline void TorchOptimizer::AddHooks() {
  using torch::autograd::variable_list;
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (!entry.tensor.requires_grad()) continue;
    const int index = static_cast<int>(i);
    // A variable only points weakly to its accumulator; who drops it, drops
    // the hook.
    entry.accumulator = torch::autograd::impl::grad_accumulator(entry.tensor);
    entry.hook = entry.accumulator->add_post_hook(
        std::make_unique<torch::autograd::utils::LambdaPostHook>(
            [this, index](const variable_list& outputs, const variable_list&) {
              OnGradient(index);
              return outputs;
            }));
  }
}

inline absl::Status TorchOptimizer::TakeOver(const OptimizerOptions& options) {
  sharded_ = options.stage == 3;
  absl::Status moved = options.memory == MemoryForm::kFlat ? MoveToFlatMemory()
                                                           : absl::OkStatus();
  if (moved.ok() && sharded_) moved = MoveToShards();
  if (!moved.ok()) return moved;
  ClearGradients();
  AddHooks();
  return absl::OkStatus();
}

inline absl::StatusOr<std::unique_ptr<TorchOptimizer>> AttachTorch(
    torch::nn::Module& module, const OptimizerOptions& options,
    Communicator& group, const TorchAttachOptions& attach) {
  std::unique_ptr<TorchOptimizer> result(new TorchOptimizer(group));
  std::vector<ParamSpec> specs;
  absl::Status status = internal::Guarded([&]() -> absl::Status {
    auto described = result->Describe(module, attach);
    if (described.ok()) specs = *std::move(described);
    return described.status();
  });
  if (!status.ok()) {
    group.Abort(status);  // Peers with another module would wait for this rank.
    return status;
  }

  result->micro_steps_ = options.micro_steps < 1 ? 1 : options.micro_steps;
  result->local_ = options.stage == 1;
  for (const ParamSpec& spec : specs) {
    if (spec.dtype != DType::kFloat32) result->local_ = false;
  }
  OptimizerOptions core = options;
  if (result->local_) {
    core.micro_steps = 1;
    if (options.reduction == Reduction::kMean) {
      result->scale_ = 1.0 / result->micro_steps_;
    }
  }
  auto optimizer = Optimizer::Create(core, specs, group);
  if (!optimizer.ok()) return optimizer.status();
  result->optimizer_ = *std::move(optimizer);
  status = internal::AgreeOnMicroSteps(result->micro_steps_, group);
  if (!status.ok()) return status;
  status = internal::Guarded([&] { return result->TakeOver(options); });
  if (!status.ok()) {
    group.Abort(status);
    return status;
  }
  status = result->optimizer_->BroadcastParams();
  if (!status.ok()) return status;
  return result;
}

// Tied tensors share one new storage, as they shared the flat one.
inline void TorchOptimizer::GiveOwnWeights() {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; optimizer_ && i < entries_.size(); ++i) {
    const void* data = optimizer_->ParamData(static_cast<int>(i));
    if (data == nullptr || entries_[i].tensor.data_ptr() != data) continue;
    const torch::Tensor own = entries_[i].tensor.detach().clone();
    for (size_t j = i; j < entries_.size(); ++j) {
      if (entries_[j].tensor.data_ptr() == data) {
        entries_[j].tensor.set_data(own.view(entries_[j].tensor.sizes()));
      }
    }
  }
}

inline void TorchOptimizer::RemoveHooks() {
  for (Entry& entry : entries_) {
    if (entry.accumulator) entry.accumulator->del_post_hook(entry.hook);
    entry.accumulator = nullptr;
    entry.tensor.mutable_grad() = torch::Tensor();
  }
}

inline absl::Status TorchOptimizer::Detach() {
  if (detached_) return absl::OkStatus();
  detached_ = true;
  alive_.reset();
  return internal::Guarded([&]() -> absl::Status {
    RemoveHooks();
    for (const auto& item : sets_) {
      absl::Status status = Gather(item.first);
      if (!status.ok()) return status;
      GiveOwnWeights();
      status = Release(item.first);
      if (!status.ok()) return status;
    }
    GiveOwnWeights();
    sharded_ = false;
    return absl::OkStatus();
  });
}

inline TorchOptimizer::~TorchOptimizer() {
  if (detached_) return;
  const absl::Status ignored = internal::Guarded([&] {
    RemoveHooks();
    for (const Entry& entry : entries_) {
      if (entry.storage) internal::PointAt(entry.storage, nullptr);
    }
    GiveOwnWeights();
    return absl::OkStatus();
  });
  (void)ignored;  // A destructor has nobody to tell.
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_ATTACH_H_
