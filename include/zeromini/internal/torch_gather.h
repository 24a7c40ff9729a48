// TorchOptimizer at stage 3. Included by zeromini/torch.h, at its end.

#ifndef ZEROMINI_INTERNAL_TORCH_GATHER_H_
#define ZEROMINI_INTERNAL_TORCH_GATHER_H_

#include <algorithm>

#include "zeromini/torch.h"

namespace zeromini {

inline absl::Status TorchOptimizer::MoveToShards() {
  torch::NoGradGuard no_grad;
  const Plan& plan = optimizer_->plan();
  for (size_t i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    const int index = static_cast<int>(i);
    const int owner = plan.params[i].owner;
    GatherSet& set = sets_[plan.params[owner].layer_set];
    if (!plan.params[owner].has_state()) continue;  // Frozen.
    if (owner == index) {
      const absl::Status taken =
          optimizer_->SetParam(index, entry.tensor.data_ptr());
      if (!taken.ok()) return taken;
      entry.storage =
          internal::EmptyStorage(static_cast<int64_t>(entry.tensor.nbytes()));
      set.owners.push_back(index);
      last_set_ = std::max(last_set_, plan.params[i].layer_set);
    }
    entry.storage = entries_[owner].storage;
    entry.whole = internal::Over(entry.storage, entry.tensor);
    entry.released = internal::WithoutStorage(entry.tensor);
    entry.tensor.set_data(entry.released);  // Frees what it was in.
    set.members.push_back(index);
  }
  anchor_ = torch::zeros({1});
  anchor_.requires_grad_();
  return absl::OkStatus();
}

// Nobody's own memory is taken away in silence.
inline absl::Status TorchOptimizer::CheckMembers(const GatherSet& set) const {
  for (int member : set.members) {
    const absl::Status status = CheckMemory(entries_[member]);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// The other ranks cannot know of an error of `body`.
template <typename Body>
absl::Status TorchOptimizer::RunOrBreak(Body body) {
  const absl::Status status = internal::Guarded(body);
  if (!status.ok()) group_.Abort(status);
  return status;
}

inline void TorchOptimizer::Show(const GatherSet& set) {
  for (int member : set.members) {
    entries_[member].tensor.set_data(entries_[member].whole);
  }
}

inline void TorchOptimizer::Hide(const GatherSet& set) {
  for (int member : set.members) {
    entries_[member].tensor.set_data(entries_[member].released);
  }
  for (int owner : set.owners) {
    internal::PointAt(entries_[owner].storage, nullptr);
  }
}

inline absl::Status TorchOptimizer::Gather(int layer_set, GatherPass pass) {
  const auto found = sets_.find(layer_set);
  absl::Status status;
  if (found != sets_.end()) {
    if (found->second.owners.empty()) return status;  // Whole.
    status = RunOrBreak([&] { return CheckMembers(found->second); });
    if (!status.ok()) return status;
  }
  status = optimizer_->Gather(layer_set, pass);
  if (!status.ok()) return status;
  GatherSet& set = found->second;
  for (size_t i = 0; status.ok() && i < set.owners.size(); ++i) {
    status = optimizer_->WaitParam(set.owners[i]);
  }
  if (!status.ok()) return status;
  return RunOrBreak([&] {
    for (int owner : set.owners) {
      internal::PointAt(entries_[owner].storage, optimizer_->ParamData(owner));
    }
    Show(set);
    set.zeros.clear();
    return absl::OkStatus();
  });
}

inline absl::Status TorchOptimizer::Release(int layer_set) {
  const auto found = sets_.find(layer_set);
  if (found != sets_.end()) {
    GatherSet& set = found->second;
    if (set.owners.empty()) return absl::OkStatus();  // Whole.
    const absl::Status status = RunOrBreak([&] {
      const absl::Status in_place = CheckMembers(set);
      if (!in_place.ok()) return in_place;
      Hide(set);
      set.zeros.clear();
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
  }
  return optimizer_->Release(layer_set);
}

// All at once: memory that goes away is left even if torch throws later.
inline void TorchOptimizer::PointAtNothing() {
  for (const auto& item : sets_) {
    for (int owner : item.second.owners) {
      internal::PointAt(entries_[owner].storage, nullptr);
    }
  }
}

inline absl::Status TorchOptimizer::HideAll() {
  PointAtNothing();
  absl::Status status;
  for (const auto& item : sets_) {
    if (status.ok()) status = CheckMembers(item.second);
    Hide(item.second);
  }
  return status;
}

// Also what has been gathered ahead and never used.
inline absl::Status TorchOptimizer::ReleaseAll() {
  for (const auto& item : sets_) {
    const absl::Status status = Release(item.first);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// One layer set after the other; `copies` by entry, if they are to be kept.
inline absl::Status TorchOptimizer::CopyWhole(
    bool keep, std::vector<torch::Tensor>* copies) {
  torch::NoGradGuard no_grad;
  absl::Status status = ReleaseAll();  // Room for each layer set by itself.
  if (!status.ok()) return status;
  for (const auto& item : sets_) {
    status = Gather(item.first);
    if (!status.ok()) return status;
    const absl::Status copied = internal::Guarded([&] {
      for (int owner : item.second.owners) {
        if (keep) (*copies)[owner] = entries_[owner].whole.clone();
      }
      return absl::OkStatus();
    });
    if (!copied.ok()) group_.Abort(copied);  // The others would wait for it.
    status = Release(item.first);
    if (!copied.ok()) return copied;
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

inline absl::Status TorchOptimizer::WithWholeWeights(
    const std::function<absl::Status()>& body) {
  const auto run = [&] { return body ? body() : absl::OkStatus(); };
  if (!sharded_) return internal::Guarded(run);
  std::vector<torch::Tensor> copies(entries_.size());
  absl::Status status =
      internal::Guarded([&] { return CopyWhole(bool{body}, &copies); });
  if (!status.ok() || !body) return status;
  status = internal::Guarded([&] {
    for (const auto& item : sets_) {
      for (int owner : item.second.owners) {
        internal::PointAt(entries_[owner].storage, copies[owner].data_ptr());
      }
      Show(item.second);
    }
    return run();
  });
  const absl::Status hidden = internal::Guarded([&] { return HideAll(); });
  return status.ok() ? hidden : status;
}

inline void TorchOptimizer::GatherOrZero(int layer_set, GatherPass pass) {
  absl::Status now = status();
  if (now.ok())
    now = internal::Guarded([&] { return Gather(layer_set, pass); });
  if (now.ok()) return;
  Keep(now);
  // The block runs whatever we say, and what it would throw says less.
  Keep(internal::Guarded([&] {
    const auto found = sets_.find(layer_set);
    if (found == sets_.end()) return absl::OkStatus();
    GatherSet& set = found->second;
    set.zeros.clear();
    for (int owner : set.owners) {
      Entry& entry = entries_[owner];
      set.zeros.push_back(
          torch::zeros(entry.tensor.sizes(), entry.tensor.scalar_type()));
      internal::PointAt(entry.storage, set.zeros.back().data_ptr());
    }
    if (CheckMembers(set).ok()) Show(set);
    return absl::OkStatus();
  }));
}

inline void TorchOptimizer::ReleaseOrKeep(int layer_set) {
  Keep(internal::Guarded([&] { return Release(layer_set); }));
}

inline bool TorchOptimizer::Trains(int layer_set) const {
  const auto found = sets_.find(layer_set);
  return found != sets_.end() && !found->second.owners.empty();
}

inline torch::Tensor TorchOptimizer::InBackward(const torch::Tensor& x,
                                                std::function<void()> call) {
  const std::weak_ptr<int> alive = alive_;
  const std::function<void()> guarded = [alive, call = std::move(call)] {
    if (!alive.expired()) call();
  };
  torch::Tensor marked = x;
  Keep(internal::Guarded([&] {
    marked = internal::CallInBackward::apply(x, anchor_, guarded);
    return absl::OkStatus();
  }));
  return marked;
}

inline torch::Tensor TorchOptimizer::Before(int layer_set,
                                            const torch::Tensor& x) {
  if (!sharded_) return x;
  GatherOrZero(layer_set, GatherPass::kForward);
  const bool backward =
      torch::GradMode::is_enabled() && (x.requires_grad() || Trains(layer_set));
  if (!backward) return x;
  return InBackward(x, [this, layer_set] { ReleaseOrKeep(layer_set); });
}

inline torch::Tensor TorchOptimizer::After(int layer_set,
                                           const torch::Tensor& x) {
  if (!sharded_) return x;
  const bool backward = torch::GradMode::is_enabled() && x.requires_grad();
  // Backward begins with the last layer set.
  if (!backward || layer_set != last_set_) ReleaseOrKeep(layer_set);
  if (!backward) return x;
  return InBackward(
      x, [this, layer_set] { GatherOrZero(layer_set, GatherPass::kBackward); });
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_GATHER_H_
