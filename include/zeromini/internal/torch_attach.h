// How TorchOptimizer takes a module over and leaves it again.
// Included by zeromini/torch.h, at its end.

#ifndef ZEROMINI_INTERNAL_TORCH_ATTACH_H_
#define ZEROMINI_INTERNAL_TORCH_ATTACH_H_

#include "zeromini/torch.h"

namespace zeromini {

inline absl::Status TorchOptimizer::DescribeOne(
    const std::string& name, const torch::Tensor& tensor,
    const std::function<void(ParamSpec& spec)>& adjust,
    std::vector<ParamSpec>* specs) {
  absl::StatusOr<ParamSpec> spec = internal::SpecOf(name, tensor);
  if (!spec.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec.status().message(),
                     "; TorchAttachOptions::include can leave it out"));
  }
  for (const Entry& earlier : entries_) {
    if (internal::DataOf(earlier.tensor) != spec->data) continue;
    spec->tied_to = earlier.name;
    break;
  }
  if (adjust) adjust(*spec);
  Entry entry;
  entry.name = name;
  entry.tensor = tensor;
  entry.trains = tensor.requires_grad() && !spec->frozen;
  entry.storage = tensor.storage();
  entry.dtype = tensor.scalar_type();
  entry.data = spec->data;
  entries_.push_back(std::move(entry));
  specs->push_back(*std::move(spec));
  return absl::OkStatus();
}

inline absl::StatusOr<std::vector<ParamSpec>> TorchOptimizer::Describe(
    torch::nn::Module& module, const OptimizerOptions& options,
    const TorchAttachOptions& attach) {
  const auto parameters = module.named_parameters();
  const internal::RangesInPart in_part(parameters);
  std::vector<internal::MemoryRange> ranges = internal::BufferRanges(module);
  std::vector<ParamSpec> specs;
  std::unordered_set<const at::TensorImpl*> seen;
  for (const auto& item : parameters) {
    const torch::Tensor& tensor = item.value();
    if (!seen.insert(tensor.unsafeGetTensorImpl()).second) continue;
    const bool included = !attach.include || attach.include(item.key(), tensor);
    if (!included) {
      settled_.insert(tensor.unsafeGetTensorImpl());
      left_out_.push_back(tensor);
    }
    const auto of_use = [&] {
      return tensor.requires_grad() ||
             (internal::SpecOf(item.key(), tensor).ok() &&
              !in_part.Has(tensor));
    };
    // In this order: torch may throw on what is asked of a tensor left out.
    const bool taken_over = included && tensor.numel() > 0 && of_use();
    ranges.push_back(internal::RangeOf("parameter", item.key(), tensor));
    ranges.back().taken_over = taken_over;
    if (!taken_over) continue;
    const absl::Status status =
        DescribeOne(item.key(), tensor, attach.adjust, &specs);
    if (!status.ok()) return status;
    if (tensor.requires_grad()) settled_.insert(tensor.unsafeGetTensorImpl());
  }
  const bool moves = options.memory == MemoryForm::kFlat;
  const absl::Status apart = internal::CheckOverlaps(std::move(ranges), moves);
  if (!apart.ok()) return apart;
  return specs;
}

inline void TorchOptimizer::MoveToFlatMemory() {
  torch::NoGradGuard no_grad;
  const Plan& plan = optimizer_->plan();
  // What has more than one gradient has no one place for their sum.
  std::vector<bool> tied(entries_.size(), false);
  for (size_t i = 0; i < entries_.size(); ++i) {
    const int owner = plan.params[i].tied_to;
    if (owner >= 0) tied[i] = tied[owner] = true;
  }
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    const int index = static_cast<int>(i);
    entry.data = optimizer_->ParamData(index);
    if (entry.data == nullptr) continue;  // Only in shards: MoveToShards().
    const torch::Tensor view = torch::from_blob(
        entry.data, entry.tensor.sizes(), entry.tensor.scalar_type());
    view.copy_(entry.tensor);
    entry.tensor.set_data(view);
    entry.storage = view.storage();
    float* grad = local_ && entry.trains && !tied[i]
                      ? optimizer_->GradData(index)
                      : nullptr;
    if (grad == nullptr) continue;
    entry.home = torch::from_blob(grad, entry.tensor.sizes(), torch::kFloat32);
  }
}

inline void TorchOptimizer::AddHooks() {
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (!entry.trains) continue;
    const int index = static_cast<int>(i);
    entry.taken = internal::TakenGradient(entry.tensor);
    // A variable only points weakly to its accumulator; who drops it, drops
    // the hooks.
    entry.accumulator = torch::autograd::impl::grad_accumulator(entry.tensor);
    entry.hooks.Add(
        *entry.accumulator, [this, index] { BeforeGradient(index); },
        [this, index](const torch::Tensor& received) {
          OnGradient(index, received);
        });
  }
}

inline absl::Status TorchOptimizer::TakeOver(const OptimizerOptions& options) {
  sharded_ = options.stage == 3;
  for (Entry& entry : entries_) {
    const bool fp32 = entry.tensor.scalar_type() == torch::kFloat32;
    entry.has_copy =
        sharded_ || (fp32 ? options.weight_wire != DType::kFloat32
                          : options.master == MasterFormat::kFloat32);
  }
  if (options.memory == MemoryForm::kFlat) MoveToFlatMemory();
  const absl::Status moved = sharded_ ? MoveToShards() : absl::OkStatus();
  if (!moved.ok()) return moved;
  ClearGradients();
  AddHooks();
  return absl::OkStatus();
}

inline void TorchOptimizer::SetMicroSteps(const OptimizerOptions& options,
                                          const std::vector<ParamSpec>& specs) {
  micro_steps_ = options.micro_steps < 1 ? 1 : options.micro_steps;
  skips_absent_ = options.absent_gradients == AbsentGradients::kSkip;
  local_ = options.stage == 1 && micro_steps_ > 1;
  for (const ParamSpec& spec : specs) {
    if (!spec.frozen && spec.dtype != DType::kFloat32) local_ = false;
  }
  if (local_ && options.reduction == Reduction::kMean) {
    scale_ = 1.0 / micro_steps_;
  }
}

namespace internal {

// Collective. Where passes are added up here, the optimizer cannot tell.
inline absl::Status AgreeOnMicroSteps(int64_t mine, Communicator& group) {
  std::vector<int64_t> all(group.size(), mine);
  Communicator& control = group.control();
  absl::Status status =
      control.AllGather(&all[group.rank()], all.data(), 1, DType::kInt64,
                        Exchange{Purpose::kControl, -1, 0});
  if (status.ok()) status = WaitForExchanges(control);
  if (!status.ok()) return status;
  for (int rank = 1; rank < group.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("ranks disagree on micro_steps: ", all[rank], " on rank ",
                     rank, " but ", all[0], " on rank 0"));
  }
  return absl::OkStatus();
}

}  // namespace internal

inline absl::StatusOr<std::unique_ptr<TorchOptimizer>> AttachTorch(
    torch::nn::Module& module, const OptimizerOptions& options,
    Communicator& group, const TorchAttachOptions& attach) {
  std::unique_ptr<TorchOptimizer> result(new TorchOptimizer(group));
  std::vector<ParamSpec> specs;
  absl::Status status = internal::Guarded([&]() -> absl::Status {
    auto described = result->Describe(module, options, attach);
    if (described.ok()) specs = *std::move(described);
    return described.status();
  });
  if (!status.ok()) {
    group.Abort(status);  // Peers with another module would wait for this rank.
    return status;
  }
  status = internal::AgreeOnMicroSteps(options.micro_steps, group);
  if (!status.ok()) return status;
  result->shared_module_ = module.weak_from_this();
  if (result->shared_module_.expired()) result->module_ = &module;
  result->include_ = attach.include;
  result->SetMicroSteps(options, specs);
  OptimizerOptions core = options;
  if (result->local_) core.micro_steps = 1;
  auto optimizer = Optimizer::Create(core, specs, group);
  if (!optimizer.ok()) return optimizer.status();
  result->optimizer_ = *std::move(optimizer);
  status = internal::Guarded([&] { return result->TakeOver(options); });
  if (!status.ok()) {
    group.Abort(status);
    return status;
  }
  status = result->optimizer_->BroadcastParams();
  if (!status.ok()) return status;
  result->RecordWeights();
  return result;
}

// Tied tensors share one new storage, as they shared the flat one.
inline void TorchOptimizer::GiveOwnWeights() {
  torch::NoGradGuard no_grad;
  for (size_t i = 0; optimizer_ && i < entries_.size(); ++i) {
    const void* data = optimizer_->ParamData(static_cast<int>(i));
    if (data == nullptr || internal::DataOf(entries_[i].tensor) != data) {
      continue;
    }
    const torch::Tensor own = entries_[i].tensor.detach().clone();
    for (size_t j = i; j < entries_.size(); ++j) {
      if (internal::DataOf(entries_[j].tensor) == data) {
        entries_[j].tensor.set_data(own.view(entries_[j].tensor.sizes()));
      }
    }
  }
}

inline void TorchOptimizer::RemoveHooks() {
  for (Entry& entry : entries_) {
    if (!entry.accumulator) continue;
    entry.hooks.Remove(*entry.accumulator);
    entry.accumulator = nullptr;
    entry.tensor.mutable_grad() = torch::Tensor();
  }
}

inline absl::Status TorchOptimizer::GiveBack() {
  RemoveHooks();
  absl::Status status = ReleaseAll();  // Room for each group by itself.
  if (!status.ok()) return status;
  for (const auto& item : sets_) {
    if (item.second.owners.empty()) continue;  // Whole.
    status = Gather(item.first);
    if (!status.ok()) return status;
    GiveOwnWeights();
    for (int owner : item.second.owners) {
      internal::PointAt(entries_[owner].storage, nullptr);
    }
    status = optimizer_->Release(item.first);
    if (!status.ok()) return status;
  }
  GiveOwnWeights();
  return absl::OkStatus();
}

inline absl::Status TorchOptimizer::Detach() {
  if (detached_) return detach_status_;
  detached_ = true;
  alive_.reset();
  detach_status_ = internal::Guarded([&] { return GiveBack(); });
  restored_ = detach_status_.ok();
  if (restored_) {
    sharded_ = false;
  } else if (sharded_) {
    group_.Abort(detach_status_);  // The others would wait for this rank.
  }
  return detach_status_;
}

inline TorchOptimizer::~TorchOptimizer() {
  if (restored_) return;
  const absl::Status ignored = internal::Guarded([&] {
    PointAtNothing();
    RemoveHooks();
    for (const auto& item : sets_) {
      if (CheckMembers(item.second).ok()) Hide(item.second);
    }
    GiveOwnWeights();
    return absl::OkStatus();
  });
  (void)ignored;  // A destructor has nobody to tell.
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_ATTACH_H_
