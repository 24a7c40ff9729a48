// TrainOptimizer: the training loop's view of an optimizer, ours or torch's
// own.

#ifndef ZEROMINI_TOOLS_TRAIN_TRAIN_OPTIMIZER_H_
#define ZEROMINI_TOOLS_TRAIN_TRAIN_OPTIMIZER_H_

#include <memory>

#include "absl/status/statusor.h"
#include "tools/train/language_model.h"
#include "tools/train/pretrain_options.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {

class TrainOptimizer {
 public:
  virtual ~TrainOptimizer() = default;

  // Collective. Before the first forward of a step or of an evaluation.
  virtual absl::Status BeginForward() { return absl::OkStatus(); }

  // Collective. After the last forward of an evaluation; the first error that a
  // forward came to.
  virtual absl::Status EndEvaluation() { return absl::OkStatus(); }

  // Runs a micro-batch's backward from its mean loss.
  virtual absl::Status Backward(const torch::Tensor& loss) = 0;

  // Collective. Updates the weights and clears the gradients.
  virtual absl::StatusOr<StepReport> Step(double learning_rate) = 0;

  // What Backward() multiplies the loss by in this step.
  virtual double loss_scale() const { return 1; }

  // The library's optimizer behind it; null if that is torch's.
  virtual Optimizer* sharded() { return nullptr; }

  virtual MemoryReport Memory() const = 0;  // Of this rank.
  virtual Traffic traffic() const = 0;      // Of this rank, all steps.
  virtual absl::Status Close() = 0;         // Collective.
};

// Both fail as CheckTrainable() does.
//
// Sharded over `group`, which must outlive the result, as must `model`. At
// stage 3 the model's blocks are gathered as it comes to them; its weights are
// gone when the result is.
absl::StatusOr<std::unique_ptr<TrainOptimizer>> MakeSharded(
    LanguageModel& model, const PretrainOptions& options, Communicator& group);

// torch::optim::AdamW on one rank: the reference to compare with.
// InvalidArgument if `group` has more ranks.
absl::StatusOr<std::unique_ptr<TrainOptimizer>> MakeTorchAdamW(
    LanguageModel& model, const PretrainOptions& options, Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_TRAIN_OPTIMIZER_H_
