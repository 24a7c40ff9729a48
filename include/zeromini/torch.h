// Opt-in: plugs the optimizer into a torch::nn::Module of the user's own
// LibTorch (1.13 or later). Header-only, so the library itself needs no torch.
//
//   auto sharded = zeromini::AttachTorch(*model, options, *group);
//   loss.backward();                                  // as ever
//   auto report = (*sharded)->Step({learning_rate});  // instead of step() and
//                                                     // zero_grad()
//
// What other trainers do to gradients between the two is the optimizer's here:
// OptimizerOptions::max_grad_norm and max_grad_value clip, and
// StepOptions::loss_scale divides by a loss scale. See TorchOptimizer::Step().

#ifndef ZEROMINI_TORCH_H_
#define ZEROMINI_TORCH_H_

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/utils/lambda_post_hook.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/torch.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "zeromini/internal/exchange_wait.h"
#include "zeromini/internal/torch_blocks.h"
#include "zeromini/internal/torch_hooks.h"
#include "zeromini/internal/torch_overlaps.h"
#include "zeromini/internal/torch_specs.h"
#include "zeromini/optimizer.h"

namespace zeromini {

struct TorchAttachOptions {
  // Called for each parameter before the optimizer is created: set a block
  // rule, a group, a layer set, slices or output_is_last here where the name
  // cannot tell.
  std::function<void(ParamSpec& spec)> adjust;

  // False: the parameter is left alone, as if it were not the module's. It is
  // neither trained nor moved nor broadcast, and its gradient stays in .grad().
  // Asked again in Step() about what has been registered since. All ranks must
  // come to the same. Empty: all are included.
  std::function<bool(const std::string& name, const torch::Tensor& tensor)>
      include;
};

// The optimizer behind a module. Hooks run where torch accumulates gradients,
// on any thread, but backward passes that reach one parameter must not run at
// the same time; everything else is for the thread that trains. Nothing throws:
// what torch throws becomes a Status.
class TorchOptimizer {
 public:
  TorchOptimizer(const TorchOptimizer&) = delete;
  TorchOptimizer& operator=(const TorchOptimizer&) = delete;

  // Never communicates. As Detach(), where it has not been called, but for the
  // sharded weights of stage 3: those tensors stay released.
  ~TorchOptimizer();

  // Collective. Optimizer::Step(), then the gradients are cleared. The module
  // reads all its weights in forward, so it always waits for them, whatever
  // options.wait says. At stage 3 all weights are released before.
  //
  // From a backward pass on, until Step(), .grad() of what it reached is a
  // bool tensor on the meta device: it has no values, and arithmetic on it,
  // clip_grad_norm_() included, throws. Gradients are changed by hooks on
  // tensors, or here (see the top); zero_grad() after Step() does no harm.
  //
  // FailedPrecondition, naming the parameter and the cure, before anything is
  // exchanged: .grad() was changed or reset after a backward pass; a trained
  // parameter has other memory or another dtype than at AttachTorch()
  // (set_data() and not back, Module::load(), to()); one that was frozen or not
  // there then requires a gradient; one that trained does not, unless
  // absent_gradients is kSkip; weights were changed in place that the next
  // update would not start from (see BroadcastWeights()). Where the module's
  // owner is no std::shared_ptr, it must still be there.
  //
  // Nothing is updated then, on any rank: the others get an InvalidArgument
  // that names this one as without a learning rate, and all may go on, or
  // Detach(). An error that status() has breaks the group instead, as gradients
  // may be missing in the middle of an exchange. An error of Optimizer::Step()
  // leaves weights and state as they were.
  absl::StatusOr<StepReport> Step(const StepOptions& options);

  // Stages 1 and 2, collective: Optimizer::BroadcastParams(), after weights
  // have been changed in place (copy_(), fill_(), a torch::load() that keeps
  // memory). Needed where an fp32 master stands behind what the module shows:
  // 16-bit weights with MasterFormat::kFloat32, or weight_wire bf16. Updates
  // start from the master, so that without this the change would be undone.
  // Swapping other memory in with set_data(), and back, needs nothing. Stage 3:
  // FailedPrecondition; there weights are set with Optimizer::SetParam().
  absl::Status BroadcastWeights();

  // The first error of a hook (one backward() too many, a sparse gradient, a
  // gradient of weights in other memory) or of Before() and After(), none of
  // which has anybody to tell. It stays.
  absl::Status status() const;

  // Stage 3 (else FailedPrecondition, and nothing to do). Collective in the
  // sense of Optimizer::Gather(), whose errors they have, and Step()'s where a
  // tensor has other memory, which breaks the group. Gather() waits and lets
  // the tensors of the set be where its weights are. Release() takes their
  // memory away: what reads or writes such a tensor then throws ("Cannot access
  // data pointer" or "storage"). Views made before are not told: through one
  // that is kept for longer, untyped reads end the process.
  absl::Status Gather(int layer_set, GatherPass pass = GatherPass::kNone);
  absl::Status Release(int layer_set);

  // Calls `body` while all weights are whole, for what wants a module as it is:
  //
  //   sharded->WithWholeWeights([&] { torch::save(model, path); return ok; });
  //
  // At stage 3 collective, from one layer set to the next, so a budget need
  // not have room for more than one: the whole copy is outside of it, only on
  // ranks whose `body` is not empty, and only there for as long as it runs.
  // What is written to it is lost, and all sets are released before and
  // after. The error is the body's own, or that of a Gather(). Ranks without a
  // `body` go on at once: in their next collective call they wait for a rank
  // whose `body` still runs, for as long as the group's timeout at most.
  absl::Status WithWholeWeights(const std::function<absl::Status()>& body);

  // Gather() and Release() around a block whose parameters are `layer_set`:
  //
  //   x = Before(i, x);
  //   x = block(x);
  //   x = After(i, x);
  //
  // The values are x's. Before() gathers, After() releases; in backward the
  // node of After() gathers and that of Before(), which runs once all of the
  // block's gradients have been handed over, releases. All that leaves the
  // block must pass through After(). Without gradients (NoGradGuard) no
  // backward is prepared. The set with the highest number is kept from a
  // forward with gradients to its backward. At other stages they do nothing.
  //
  // What is in none is for the caller: Gather(kNoLayerSet) before the first
  // forward of a step; Step() releases it, or Release() after an evaluation.
  //
  // An error is kept for status() and Step(); until then the block computes
  // with zeros in place of its weights, outside of any budget.
  torch::Tensor Before(int layer_set, const torch::Tensor& x);
  torch::Tensor After(int layer_set, const torch::Tensor& x);

  // Ends the optimizer's hold on the module: no hooks, no gradients, and in
  // flat memory weights of its own again (one copy). Collective at stage 3,
  // where it releases all sets, then gathers one after the other. Step()
  // fails from then on. After an error, which breaks the group at stage 3, the
  // weights are as the destructor leaves them; a later call says it again.
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
    bool trains = false;  // Neither frozen nor without requires_grad.

    // Where the weights are, for good; kept even if the tensor leaves it.
    c10::Storage storage;
    torch::ScalarType dtype = torch::kFloat32;
    void* data = nullptr;  // Null where they are in shards.
    // In shards only: what the tensor is between Gather() and Release(), and
    // what it is else.
    torch::Tensor whole, released;

    // A std::shared_ptr or, in later releases, torch's own.
    decltype(torch::autograd::impl::grad_accumulator(
        std::declval<const torch::Tensor&>())) accumulator;
    internal::GradientHooks hooks;
    int passes = 0;  // Backward passes that reached it since Step().
    // True if updates start from a copy, which changes in place do not reach.
    bool has_copy = false;
    int64_t weight_version = 0;  // Torch counts changes in place.

    torch::Tensor home;   // Over Optimizer::GradData(); else undefined.
    torch::Tensor sum;    // Of passes that wait for the last one.
    torch::Tensor taken;  // What .grad() is after a pass.
    int64_t taken_version = 0;
  };

  // What is gathered together: nothing, if all of it is frozen and thus whole.
  struct GatherSet {
    std::vector<int> owners;           // Of entries_, tied ones left out.
    std::vector<int> members;          // Tied ones in.
    std::vector<torch::Tensor> zeros;  // In place of weights, after an error.
  };

  explicit TorchOptimizer(Communicator& group) : group_(group) {}

  // Lists the module's tensors and says what each is. No communication.
  absl::StatusOr<std::vector<ParamSpec>> Describe(
      torch::nn::Module& module, const OptimizerOptions& options,
      const TorchAttachOptions& attach);
  absl::Status DescribeOne(const std::string& name, const torch::Tensor& tensor,
                           const std::function<void(ParamSpec& spec)>& adjust,
                           std::vector<ParamSpec>* specs);
  void SetMicroSteps(const OptimizerOptions& options,
                     const std::vector<ParamSpec>& specs);
  absl::Status TakeOver(const OptimizerOptions& options);
  void MoveToFlatMemory();
  void AddHooks();
  void RemoveHooks();
  void GiveOwnWeights();
  absl::Status GiveBack();
  void Keep(const absl::Status& status);

  // internal/torch_gradients.h.
  void BeforeGradient(int index);
  void OnGradient(int index, const torch::Tensor& received);
  absl::Status Take(int index, int pass, const torch::Tensor& received);
  absl::Status GiveSum(int index);
  absl::Status GiveLate(int index);
  absl::Status GiveAllLate();
  void ClearGradients();
  // Ends a step that this rank cannot take, on all ranks.
  absl::Status Refuse(const absl::Status& why);

  // Whether all is as it was taken over: internal/torch_checks.h.
  absl::Status CheckGradient(const Entry& entry) const;
  absl::Status CheckMemory(const Entry& entry) const;
  absl::Status CheckTrains(const Entry& entry) const;
  absl::Status CheckWeights(const Entry& entry) const;
  void RecordWeights();
  absl::Status CheckRegistered() const;
  absl::Status CheckModule() const;

  // Stage 3: internal/torch_gather.h.
  absl::Status MoveToShards();
  absl::Status CheckMembers(const GatherSet& set) const;
  template <typename Body>
  absl::Status RunOrBreak(Body body);
  void Show(const GatherSet& set);
  void Hide(const GatherSet& set);
  void PointAtNothing();
  absl::Status HideAll();
  absl::Status ReleaseAll();
  absl::Status CopyWhole(bool keep, std::vector<torch::Tensor>* copies);
  void GatherOrZero(int layer_set, GatherPass pass);
  void ReleaseOrKeep(int layer_set);
  bool Trains(int layer_set) const;
  torch::Tensor InBackward(const torch::Tensor& x, std::function<void()> call);

  Communicator& group_;
  std::unique_ptr<Optimizer> optimizer_;
  std::vector<Entry> entries_;  // As the ParamSpecs.
  // Where torch requires a gradient and that is as it should be.
  std::unordered_set<const at::TensorImpl*> settled_;
  std::vector<torch::Tensor> left_out_;  // By include_; these are settled, too.
  std::weak_ptr<torch::nn::Module>
      shared_module_;                    // Empty if nobody shares it,
  torch::nn::Module* module_ = nullptr;  // and then this is set.
  decltype(TorchAttachOptions::include) include_;
  int micro_steps_ = 1;
  // The passes are added up here, and the last one hands over.
  bool local_ = true;
  double scale_ = 1;  // What a local sum is multiplied by.
  bool skips_absent_ = false;
  bool detached_ = false;
  absl::Status detach_status_;  // What Detach() has said.
  bool restored_ = false;  // The module no longer needs this object's memory.

  bool sharded_ = false;           // Stage 3.
  std::map<int, GatherSet> sets_;  // By layer set.
  int last_set_ = kNoLayerSet;     // Of those that are sharded.
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
// Gradients that are there are dropped.
//
// Left alone, hence neither moved nor broadcast, are frozen tensors that the
// optimizer has no use for (another dtype, sparse, not contiguous, not on the
// host, over a part of another), tensors without elements, and what
// TorchAttachOptions::include leaves out.
//
// options.memory == kFlat moves the weights into the optimizer's memory; the
// tensors stay the module's. A gradient is freed as soon as it has been handed
// over, and .grad() is then as Step() says. At stage 3 tensors that are not
// frozen have no memory but from Gather() or Before() on.
//
// options.micro_steps == k: k backward passes before Step(). At stage 1, if all
// that trains is fp32, the passes are added up here, in the optimizer's memory
// with kFlat, and only the last hands over. Otherwise every pass hands over at
// once, and the optimizer adds up in fp32, shards only from stage 2 on; the
// gradients are then exchanged k times. With Reduction::kMean the sum is
// divided by k, hence each micro-batch's *mean* loss goes into backward() as it
// is, not divided by k.
//
// Of a parameter that fewer passes reached, but one, Step() gives what is
// missing, as zeros where passes have been handed over. All ranks must have the
// same micro_steps (InvalidArgument with both numbers). At stage 3, where
// gathers and gradients share one order, all ranks must reach the same
// parameters in each pass.
//
// InvalidArgument, naming the parameter: it requires a gradient and is not on
// the host, not dense, not contiguous, not a dtype the optimizer knows; or its
// memory overlaps another's and does not begin and end with it, be it a
// parameter's or, with kFlat, a buffer's. `group` must outlive the result.
absl::StatusOr<std::unique_ptr<TorchOptimizer>> AttachTorch(
    torch::nn::Module& module, const OptimizerOptions& options,
    Communicator& group, const TorchAttachOptions& attach = {});

}  // namespace zeromini

// What is declared above, defined.
#include "zeromini/internal/torch_attach.h"
#include "zeromini/internal/torch_checks.h"
#include "zeromini/internal/torch_gather.h"
#include "zeromini/internal/torch_gradients.h"

#endif  // ZEROMINI_TORCH_H_
