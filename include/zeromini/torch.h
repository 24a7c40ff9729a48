// Opt-in: plugs the optimizer into a torch::nn::Module of the user's own
// LibTorch (1.13 or later). Header-only, so the library itself needs no torch.
//
//   auto sharded = zeromini::AttachTorch(*model, options, *group);
//   loss.backward();                                  // as ever
//   auto report = (*sharded)->Step({learning_rate});  // instead of step() and
//                                                     // zero_grad()

#ifndef ZEROMINI_TORCH_H_
#define ZEROMINI_TORCH_H_

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/torch.h>

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "zeromini/optimizer.h"

namespace zeromini {

struct TorchAttachOptions {
  // Called for each parameter before the optimizer is created: set a block
  // rule, a group, slices or output_is_last here where the name cannot tell.
  std::function<void(ParamSpec& spec)> adjust;
};

// The optimizer behind a module. Hooks run where torch accumulates gradients,
// on any thread; everything else is for the thread that trains. Nothing throws:
// what torch throws becomes a Status.
class TorchOptimizer {
 public:
  TorchOptimizer(const TorchOptimizer&) = delete;
  TorchOptimizer& operator=(const TorchOptimizer&) = delete;

  // Removes the hooks. Flat memory: gives the module weights of its own again
  // (one copy). Never communicates.
  ~TorchOptimizer();

  // Collective. Optimizer::Step(), then the gradients are cleared. The module
  // reads all its weights in forward, so it always waits for them, whatever
  // options.wait says.
  //
  // An error of a hook (one backward() too many, a sparse gradient) is kept
  // and returned here; since the other ranks cannot know of it, it breaks the
  // group. An error of Optimizer::Step() leaves weights and state as they were.
  absl::StatusOr<StepReport> Step(const StepOptions& options);

  Optimizer& optimizer() { return *optimizer_; }
  const Optimizer& optimizer() const { return *optimizer_; }

 private:
  friend absl::StatusOr<std::unique_ptr<TorchOptimizer>> AttachTorch(
      torch::nn::Module& module, const OptimizerOptions& options,
      Communicator& group, const TorchAttachOptions& attach);

  struct Entry {
    std::string name;
    torch::Tensor tensor;
    torch::Tensor flat_grad;  // Over Optimizer::GradData(); else undefined.
    // A std::shared_ptr or, in later releases, torch's own.
    decltype(torch::autograd::impl::grad_accumulator(
        std::declval<const torch::Tensor&>())) accumulator;
    uintptr_t hook = 0;
    int passes = 0;     // Backward passes that reached it since Step().
    bool tied = false;  // Another tensor object over an earlier one's memory.
  };

  explicit TorchOptimizer(Communicator& group) : group_(group) {}

  // Lists the module's tensors and says what each is. No communication.
  absl::StatusOr<std::vector<ParamSpec>> Describe(
      torch::nn::Module& module, const TorchAttachOptions& attach);
  absl::Status MoveToFlatMemory();
  void AddHooks();
  void OnGradient(int index);
  absl::Status Deliver(int index);
  void ClearGradients();

  // Runs `body`, which returns a Status; what torch throws becomes one too.
  template <typename Body>
  static absl::Status Guarded(Body body);

  Communicator& group_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<Entry> entries_;  // As the ParamSpecs.
  int micro_steps_ = 1;
  double scale_ = 1;   // What an accumulated gradient is multiplied by.
  bool keep_ = false;  // Gradients live in flat memory between steps.

  std::mutex mutex_;  // Guards hook_status_ and Entry::passes.
  absl::Status hook_status_;
};

// Collective, and so are the errors of Optimizer::Create(). Parameters are
// given under the module's own names in its own order; a tensor registered
// twice is one parameter, one that shares another's memory is tied to it, and
// requires_grad() == false is frozen. Ends with BroadcastParams(): training
// starts from rank 0's weights.
//
// options.memory == kFlat moves the weights, and at stage 1 the gradients, into
// the optimizer's memory; the tensors stay the module's. Otherwise, and at
// stage 2, a gradient is freed as soon as it has been handed over.
//
// options.micro_steps == k: k backward passes accumulate in .grad() and only
// the last hands over, so gradients are exchanged once at either stage. With
// Reduction::kMean the sum is divided by k, hence each micro-batch's *mean*
// loss goes into backward() as it is, not divided by k. A parameter that fewer
// passes reached is handed over by Step().
//
// InvalidArgument, naming the parameter: not on the host, not contiguous, not
// a dtype the optimizer knows. `group` must outlive the result.
absl::StatusOr<std::unique_ptr<TorchOptimizer>> AttachTorch(
    torch::nn::Module& module, const OptimizerOptions& options,
    Communicator& group, const TorchAttachOptions& attach = {});

// ---------------------------------------------------------------------------

template <typename Body>
absl::Status TorchOptimizer::Guarded(Body body) {
  try {
    return body();
  } catch (const c10::Error& error) {
    return absl::InternalError(
        absl::StrCat("torch: ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("torch: ", error.what()));
  }
}

namespace internal {

inline absl::StatusOr<DType> DTypeOf(const torch::Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case torch::kFloat32:
      return DType::kFloat32;
    case torch::kBFloat16:
      return DType::kBFloat16;
    case torch::kFloat16:
      return DType::kFloat16;
    default:
      return absl::InvalidArgumentError(
          absl::StrCat("dtype ", c10::toString(tensor.scalar_type()),
                       " is none of float32, bfloat16 and float16"));
  }
}

inline absl::StatusOr<ParamSpec> SpecOf(const std::string& name,
                                        const torch::Tensor& tensor) {
  const std::string who = absl::StrCat("parameter '", name, "': ");
  if (!tensor.device().is_cpu()) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "is on ", tensor.device().str(),
                     ", the optimizer works in host memory"));
  }
  if (!tensor.is_contiguous()) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "is not contiguous; call set_data(t.contiguous())"));
  }
  absl::StatusOr<DType> dtype = DTypeOf(tensor);
  if (!dtype.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, dtype.status().message()));
  }
  ParamSpec spec;
  spec.name = name;
  spec.shape = tensor.sizes().vec();
  if (spec.shape.empty()) spec.shape = {1};
  spec.dtype = *dtype;
  spec.frozen = !tensor.requires_grad();
  spec.data = tensor.data_ptr();
  return spec;
}

}  // namespace internal

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
    float* data = optimizer_->ParamData(index);
    if (data == nullptr) continue;
    const torch::Tensor view =
        torch::from_blob(data, entry.tensor.sizes(), torch::kFloat32);
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

inline void TorchOptimizer::OnGradient(int index) {
  Entry& entry = entries_[index];
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (++entry.passes < micro_steps_ || !hook_status_.ok()) return;
    if (entry.passes > micro_steps_) {
      hook_status_ = absl::FailedPreconditionError(absl::StrCat(
          "parameter '", entry.name, "': backward pass ", entry.passes,
          " before Step(), but micro_steps is ", micro_steps_));
      return;
    }
  }
  const absl::Status status = Guarded([&] { return Deliver(index); });
  if (status.ok()) return;
  std::lock_guard<std::mutex> lock(mutex_);
  if (hook_status_.ok()) hook_status_ = status;
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
  const absl::Status status = optimizer_->GradReady(
      index, in_place ? nullptr : static_cast<const float*>(grad.data_ptr()));
  // Freed here, so that full gradients never exist all at once.
  if (!keep_) entry.tensor.mutable_grad() = torch::Tensor();
  return status;
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
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!hook_status_.ok()) {
      group_.Abort(hook_status_);
      return hook_status_;
    }
  }
  const absl::Status late = Guarded([&]() -> absl::Status {
    for (size_t i = 0; i < entries_.size(); ++i) {
      const int passes = entries_[i].passes;
      if (passes == 0 || passes == micro_steps_) continue;
      const absl::Status status = Deliver(static_cast<int>(i));
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  });
  if (!late.ok()) {
    group_.Abort(late);
    return late;
  }
  StepOptions waiting = options;
  waiting.wait = true;
  absl::StatusOr<StepReport> report = optimizer_->Step(waiting);
  const absl::Status cleared = Guarded([&] {
    ClearGradients();
    return absl::OkStatus();
  });
  if (!cleared.ok()) return cleared;
  return report;
}

inline TorchOptimizer::~TorchOptimizer() {
  const absl::Status ignored = Guarded([&] {
    torch::NoGradGuard no_grad;
    for (Entry& entry : entries_) {
      if (entry.accumulator) entry.accumulator->del_post_hook(entry.hook);
      entry.tensor.mutable_grad() = torch::Tensor();
    }
    // Tied tensors share one new storage, as they shared the flat one.
    for (size_t i = 0; optimizer_ && i < entries_.size(); ++i) {
      const void* data = optimizer_->ParamData(static_cast<int>(i));
      if (data == nullptr || entries_[i].tensor.data_ptr() != data) continue;
      const torch::Tensor own = entries_[i].tensor.detach().clone();
      for (size_t j = i; j < entries_.size(); ++j) {
        if (entries_[j].tensor.data_ptr() == data) {
          entries_[j].tensor.set_data(own.alias());
        }
      }
    }
    return absl::OkStatus();
  });
  (void)ignored;  // A destructor has nobody to tell.
}

inline absl::StatusOr<std::unique_ptr<TorchOptimizer>> AttachTorch(
    torch::nn::Module& module, const OptimizerOptions& options,
    Communicator& group, const TorchAttachOptions& attach) {
  std::unique_ptr<TorchOptimizer> result(new TorchOptimizer(group));
  std::vector<ParamSpec> specs;
  absl::Status status = TorchOptimizer::Guarded([&]() -> absl::Status {
    auto described = result->Describe(module, attach);
    if (described.ok()) specs = *std::move(described);
    return described.status();
  });
  if (!status.ok()) {
    group.Abort(status);  // Peers with another module would wait for this rank.
    return status;
  }

  OptimizerOptions core = options;
  core.micro_steps = 1;
  auto optimizer = Optimizer::Create(core, specs, group);
  if (!optimizer.ok()) return optimizer.status();
  result->optimizer_ = *std::move(optimizer);
  result->micro_steps_ = options.micro_steps < 1 ? 1 : options.micro_steps;
  result->scale_ =
      options.reduction == Reduction::kMean ? 1.0 / result->micro_steps_ : 1.0;
  result->keep_ = options.memory == MemoryForm::kFlat && options.stage == 1;
  status = TorchOptimizer::Guarded([&]() -> absl::Status {
    absl::Status moved = options.memory == MemoryForm::kFlat
                             ? result->MoveToFlatMemory()
                             : absl::OkStatus();
    if (!moved.ok()) return moved;
    result->ClearGradients();
    result->AddHooks();
    return absl::OkStatus();
  });
  if (!status.ok()) return status;
  status = result->optimizer_->BroadcastParams();
  if (!status.ok()) return status;
  return result;
}

}  // namespace zeromini

#endif  // ZEROMINI_TORCH_H_
