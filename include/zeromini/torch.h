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

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "zeromini/internal/torch_blocks.h"
#include "zeromini/internal/torch_specs.h"
#include "zeromini/optimizer.h"

namespace zeromini {

struct TorchAttachOptions {
  // Called for each parameter before the optimizer is created: set a block
  // rule, a group, a gather group, slices or output_is_last here where the name
  // cannot tell.
  std::function<void(ParamSpec& spec)> adjust;
};

// The optimizer behind a module. Hooks run where torch accumulates gradients,
// on any thread; everything else is for the thread that trains. Nothing throws:
// what torch throws becomes a Status.
class TorchOptimizer {
 public:
  TorchOptimizer(const TorchOptimizer&) = delete;
  TorchOptimizer& operator=(const TorchOptimizer&) = delete;

  // Never communicates. As Detach(), where it has not been called, but for the
  // sharded weights of stage 3: those tensors are left without memory.
  ~TorchOptimizer();

  // Collective. Optimizer::Step(), then the gradients are cleared. The module
  // reads all its weights in forward, so it always waits for them, whatever
  // options.wait says. At stage 3 all weights are released before.
  //
  // An error that status() has is returned here; since the other ranks cannot
  // know of it, it breaks the group. An error of Optimizer::Step() leaves
  // weights and state as they were.
  absl::StatusOr<StepReport> Step(const StepOptions& options);

  // The first error of a hook (one backward() too many, a sparse gradient) or
  // of Before() and After(), none of which has anybody to tell. It stays.
  absl::Status status() const;

  // Stage 3 (else FailedPrecondition, and nothing to do). Collective in the
  // sense of Optimizer::Gather(), whose errors they have. Gather() waits and
  // lets the tensors of the group be where its weights are; Release() takes
  // their memory away, and whatever reads them then reads null.
  absl::Status Gather(int group, GatherPass pass = GatherPass::kNone);
  absl::Status Release(int group);

  // Gather() and Release() around a block whose parameters are `group`:
  //
  //   x = Before(i, x);
  //   x = block(x);
  //   x = After(i, x);
  //
  // The values are x's. Before() gathers, After() releases; in backward the
  // node of After() gathers and that of Before(), which runs once all of the
  // block's gradients have been handed over, releases. All that leaves the
  // block must pass through After(). Without gradients (NoGradGuard) no
  // backward is prepared. The group with the highest number is kept from a
  // forward with gradients to its backward. At other stages they do nothing.
  //
  // What is in no group (-1) is for the caller: Gather(-1) before the first
  // forward of a step; Step() releases it, or Release(-1) after an evaluation.
  //
  // An error is kept for status() and Step(); until then the block computes
  // with zeros in place of its weights, outside of any budget.
  torch::Tensor Before(int group, const torch::Tensor& x);
  torch::Tensor After(int group, const torch::Tensor& x);

  // Ends the optimizer's hold on the module: no hooks, no gradients, and in
  // flat memory weights of its own again (one copy). Collective at stage 3,
  // where it gathers one group after the other. Step() fails from then on.
  absl::Status Detach();

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
    c10::Storage storage;     // Stage 3: under the tensor for good. Else null.
    // A std::shared_ptr or, in later releases, torch's own.
    decltype(torch::autograd::impl::grad_accumulator(
        std::declval<const torch::Tensor&>())) accumulator;
    uintptr_t hook = 0;
    int passes = 0;     // Backward passes that reached it since Step().
    bool tied = false;  // Another tensor object over an earlier one's memory.
  };

  // What is gathered together: nothing, if all of it is frozen and thus whole.
  struct GatherSet {
    std::vector<int> owners;           // Of entries_, tied ones left out.
    std::vector<torch::Tensor> zeros;  // In place of weights, after an error.
  };

  explicit TorchOptimizer(Communicator& group) : group_(group) {}

  // Lists the module's tensors and says what each is. No communication.
  absl::StatusOr<std::vector<ParamSpec>> Describe(
      torch::nn::Module& module, const TorchAttachOptions& attach);
  absl::Status TakeOver(const OptimizerOptions& options);
  absl::Status MoveToFlatMemory();
  void AddHooks();
  void RemoveHooks();
  void OnGradient(int index);
  absl::Status Deliver(int index);
  absl::Status DeliverLate(int index);
  absl::Status DeliverAllLate();
  void ClearGradients();
  void GiveOwnWeights();
  void Keep(const absl::Status& status);

  // Stage 3: internal/torch_gather.h.
  absl::Status MoveToShards();
  absl::Status ReleaseAll();
  void GatherOrZero(int group, GatherPass pass);
  void ReleaseOrKeep(int group);
  bool Trains(int group) const;
  torch::Tensor InBackward(const torch::Tensor& x, std::function<void()> call);

  Communicator& group_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<Entry> entries_;  // As the ParamSpecs.
  int micro_steps_ = 1;
  // Torch adds up the passes in .grad(), and the last one hands over.
  bool local_ = true;
  double scale_ = 1;  // What a local sum is multiplied by.
  bool detached_ = false;

  bool sharded_ = false;           // Stage 3.
  std::map<int, GatherSet> sets_;  // By gather group.
  int last_group_ = -1;            // Of those that are sharded.
  torch::Tensor anchor_;           // Of internal::CallInBackward.
  // A graph may outlive this object; its nodes must not call it then.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);

  mutable std::mutex mutex_;  // Guards hook_status_ and Entry::passes.
  absl::Status hook_status_;
};

// Collective, and so are the errors of Optimizer::Create(). Parameters are
// given under the module's own names in its own order; a tensor registered
// twice is one parameter, one that shares another's memory is tied to it, and
// requires_grad() == false is frozen. Training starts from rank 0's weights.
//
// options.memory == kFlat moves the weights, and at stage 1 the fp32 gradients,
// into the optimizer's memory; the tensors stay the module's. Other gradients
// are freed as soon as they have been handed over. At stage 3 tensors that are
// not frozen have no memory but from Gather() or Before() on; typed reads of
// such a one throw, others read null.
//
// options.micro_steps == k: k backward passes before Step(). At stage 1, if all
// parameters are fp32, they accumulate in .grad() and only the last hands over.
// Otherwise every pass hands over at once, and the optimizer adds up in fp32,
// shards only from stage 2 on; the gradients are then exchanged k times. With
// Reduction::kMean the sum is divided by k, hence each micro-batch's *mean*
// loss goes into backward() as it is, not divided by k.
//
// Of a parameter that fewer passes reached, but one, Step() gives what is
// missing, as zeros where passes have been handed over. At stage 3, where
// gathers and gradients share one order, all ranks must reach the same
// parameters in each pass.
//
// InvalidArgument, naming the parameter: not on the host, not contiguous, not
// a dtype the optimizer knows. `group` must outlive the result.
absl::StatusOr<std::unique_ptr<TorchOptimizer>> AttachTorch(
    torch::nn::Module& module, const OptimizerOptions& options,
    Communicator& group, const TorchAttachOptions& attach = {});

}  // namespace zeromini

// What is declared above, defined.
#include "zeromini/internal/torch_attach.h"
#include "zeromini/internal/torch_gather.h"
#include "zeromini/internal/torch_gradients.h"

#endif  // ZEROMINI_TORCH_H_
