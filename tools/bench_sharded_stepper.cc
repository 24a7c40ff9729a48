#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "tools/agree_on.h"
#include "tools/bench_stepper_kinds.h"
#include "tools/layer_walk.h"
#include "tools/stopwatch.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/optimizer.h"
#include "zeromini/plan_bytes.h"

namespace zeromini::tools {
namespace {

// By layer, for little padding: what there was before layouts were weighed by
// all that they cost. A copy then weighed as much as 0.5 % of padding, which is
// what a bucket in place could have, and buffers weighed nothing.
void LayOutByPadding(OptimizerOptions* options) {
  options->blocks = BlockCuts::kWhole;
  options->bucket_bytes = 0;
  options->bucketing = Bucketing::kByLayer;
  options->copy_cost = 0.005;
  options->buffer_budget_bytes = kNoBufferBudget;
}

absl::StatusOr<OptimizerOptions> OptionsFor(const StepperRecipe& recipe,
                                            const StepSettings& settings,
                                            const Workload& workload,
                                            int ranks) {
  OptimizerOptions options = settings.layout;
  options.algorithm = recipe.optimizer.algorithm;
  options.second_moment = recipe.optimizer.second_moment;
  options.stage = settings.stage;
  options.memory = MemoryForm::kFlat;
  options.model = workload.shape;
  options.max_grad_norm = settings.clip;
  options.non_finite = settings.clip > 0 ? NonFiniteGradients::kError
                                         : NonFiniteGradients::kIgnore;
  if (recipe.kind == StepperKind::kShardedByPadding) LayOutByPadding(&options);
  ZEROMINI_ASSIGN_OR_RETURN(options.gather_budget_bytes,
                            GatherBudget(workload.params, options, ranks));
  return options;
}

class ShardedStepper : public Stepper {
 public:
  ShardedStepper(const OptimizerOptions& options, const Workload& workload,
                 Communicator& group)
      : options_(options), workload_(workload), group_(group) {}

  absl::Status Init() {
    ZEROMINI_ASSIGN_OR_RETURN(
        optimizer_, Optimizer::Create(options_, workload_.params, group_));
    walk_ = std::make_unique<LayerWalk>(*optimizer_);
    FillWeights();
    return AgreeOn(FindGradients(), group_);
  }

  std::optional<LayoutFacts> Layout() const override {
    const Plan& plan = optimizer_->plan();
    return LayoutFacts{options_.stage,
                       static_cast<int64_t>(plan.buckets.size()),
                       plan.PaddingFraction(),
                       plan.InPlaceFraction(),
                       StepBytesOf(plan, options_, group_.rank()).copied(),
                       static_cast<int64_t>(plan.split_blocks.size())};
  }

  void Prepare() override {
    for (int p = 0; p < params(); ++p) {
      float* const home = optimizer_->GradData(p);
      FillGradient(group_.rank(), workload_.ElementsOf(p),
                   home != nullptr ? home : given_[p]);
    }
  }

  absl::StatusOr<StepSeconds> Step() override {
    const Stopwatch watch;
    waited_ = 0;
    ZEROMINI_RETURN_IF_ERROR(Forward());
    ZEROMINI_RETURN_IF_ERROR(Backward());
    StepOptions now;
    now.learning_rate = kStepLearningRate;
    now.wait = false;
    ZEROMINI_ASSIGN_OR_RETURN(const StepReport report, optimizer_->Step(now));
    return StepSeconds{watch.seconds(), report.seconds_update,
                       report.seconds_exposed_gradients +
                           report.seconds_scalars +
                           std::max(0.0, waited_ - report.seconds_update)};
  }

  absl::Status Finish() override { return optimizer_->WaitAll(); }

  StepperCounts Counts() const override {
    StepperCounts counts{0, 0};
    for (const LevelBytes& bytes : group_.level_traffic()) {
      counts.sent_between_hosts += bytes.between_hosts;
    }
    for (const TrafficCount& purpose : optimizer_->traffic()) {
      counts.collectives += purpose.calls;
    }
    return counts;
  }

  std::optional<int64_t> BufferBytes() const override {
    return optimizer_->Memory().buckets;
  }

  absl::Status Close() override { return optimizer_->Close(); }

 private:
  int params() const { return static_cast<int>(workload_.params.size()); }

  // At stage 3 they begin as zeros: no whole tensor is there to be filled, and
  // numbers cost the same, whatever they are.
  void FillWeights() {
    if (options_.stage == 3) return;
    for (int p = 0; p < params(); ++p) {
      std::fill_n(static_cast<float*>(optimizer_->ParamData(p)),
                  workload_.ElementsOf(p), kFirstWeight);
    }
  }

  // Stage 1 exchanges from the memory that backward writes to. Where there is
  // none, the gradient comes from the trainer's own.
  absl::Status FindGradients() {
    std::vector<int64_t> offsets(params(), -1);
    int64_t elements = 0;
    for (int p = 0; p < params(); ++p) {
      if (optimizer_->GradData(p) != nullptr) continue;
      offsets[p] = elements;
      elements += workload_.ElementsOf(p);
    }
    gradients_ = AllocateFloats(elements, 0);
    if (gradients_ == nullptr) return NoMemoryForParameters(elements);
    for (const int64_t offset : offsets) {
      given_.push_back(offset < 0 ? nullptr : gradients_.get() + offset);
    }
    return absl::OkStatus();
  }

  absl::Status Enter(int param, GatherPass pass) {
    const Stopwatch watch;
    ZEROMINI_RETURN_IF_ERROR(walk_->Enter(param, pass));
    waited_ += watch.seconds();
    return absl::OkStatus();
  }

  absl::Status Forward() {
    ComputePass compute = workload_.Forward();
    for (int p = 0; p < params(); ++p) {
      ZEROMINI_RETURN_IF_ERROR(Enter(p, GatherPass::kForward));
      compute.Compute(workload_.ElementsOf(p));
    }
    compute.Finish();
    return absl::OkStatus();
  }

  absl::Status Backward() {
    ComputePass compute = workload_.Backward();
    for (int p = params() - 1; p >= 0; --p) {
      ZEROMINI_RETURN_IF_ERROR(Enter(p, GatherPass::kBackward));
      compute.Compute(workload_.ElementsOf(p));
      // The last bucket leaves no sooner than backward ends.
      if (p == 0) compute.Finish();
      ZEROMINI_RETURN_IF_ERROR(optimizer_->GradReady(p, given_[p]));
    }
    return absl::OkStatus();
  }

  OptimizerOptions options_;
  const Workload& workload_;
  Communicator& group_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<LayerWalk> walk_;
  Floats gradients_;
  std::vector<float*> given_;  // By parameter; null: at home in ours.
  double waited_ =
      0;  // In this step: for weights, and for kernels before them.
};

}  // namespace

absl::StatusOr<int64_t> ShardedBytes(const StepperRecipe& recipe,
                                     const StepSettings& settings,
                                     const Workload& workload, int ranks) {
  ZEROMINI_ASSIGN_OR_RETURN(const OptimizerOptions options,
                            OptionsFor(recipe, settings, workload, ranks));
  ZEROMINI_ASSIGN_OR_RETURN(const Plan plan,
                            PlanFor(workload.params, options, ranks));
  int64_t given = 0;  // Gradients that have no home in the optimizer.
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const bool home = options.stage == 1 && plan.params[p].sharers.size() == 1;
    if (!home) given += workload.ElementsOf(static_cast<int>(p));
  }
  return MemoryOf(plan, options, LargestRank(plan, options)).peak +
         given * int64_t{sizeof(float)};
}

absl::StatusOr<std::unique_ptr<Stepper>> MakeShardedStepper(
    const StepperRecipe& recipe, const StepSettings& settings,
    const Workload& workload, BenchRank& rank) {
  ZEROMINI_ASSIGN_OR_RETURN(
      const OptimizerOptions options,
      OptionsFor(recipe, settings, workload, rank.group.size()));
  auto stepper =
      std::make_unique<ShardedStepper>(options, workload, rank.group);
  ZEROMINI_RETURN_IF_ERROR(stepper->Init());
  return stepper;
}

}  // namespace zeromini::tools
