#include "zeromini/optimizer.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/group/agreement.h"
#include "runtime/group/rank_groups.h"
#include "runtime/optimizer_parts.h"
#include "runtime/options/hyper_groups.h"
#include "runtime/options/plan_inputs.h"
#include "runtime/state/state_gather.h"
#include "runtime/step/step_pipeline.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/log.h"

namespace zeromini {
namespace {

Traffic Difference(const Traffic& now, const Traffic& before) {
  Traffic result = now;
  for (int p = 0; p < kPurposes; ++p) {
    result[p].calls -= before[p].calls;
    result[p].bytes -= before[p].bytes;
    result[p].padding_bytes -= before[p].padding_bytes;
    result[p].inside_host_bytes -= before[p].inside_host_bytes;
    result[p].between_hosts_bytes -= before[p].between_hosts_bytes;
  }
  return result;
}

class ShardedOptimizer : public Optimizer {
 public:
  ShardedOptimizer(const OptimizerOptions& options, Communicator& group,
                   OptimizerParts parts)
      : options_(options),
        group_(CountingCommunicator::Wrap(group)),
        parts_(std::move(parts)) {}

  ~ShardedOptimizer() override {
    // Streams may still use our buffers; their waits are bounded.
    if (open_ && pipeline_ != nullptr) pipeline_->End().IgnoreError();
  }

  absl::Status Init(absl::Span<const ParamSpec> specs) {
    ZEROMINI_RETURN_IF_ERROR(AgreeOnStatus(PlanHere(specs), control()));
    ZEROMINI_RETURN_IF_ERROR(AgreeOnPlan(plan_, options_, control()));
    if (group_->rank() == 0) {
      for (const std::string& warning : plan_.warnings) {
        Log(options_.log, LogLevel::kWarning, warning);
      }
      for (size_t g = 0; g < options_.hyper_groups.size(); ++g) {
        WarnIfStill(options_.hyper_groups[g], static_cast<int>(g), plan_,
                    options_.log);
      }
    }
    ZEROMINI_RETURN_IF_ERROR(groups_.Init(*group_, options_));
    return AgreeOnStatus(AllocateHere(specs), control());
  }

  void* ParamData(int param) override {
    return Flat(param) ? pipeline_->weights().tensor(OwnerOf(param)) : nullptr;
  }

  float* GradData(int param) override {
    return Flat(param) ? pipeline_->weights().store().gradients(param)
                       : nullptr;
  }

  absl::Status SetParam(int param, const void* data) override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    Buffer whole;
    ZEROMINI_RETURN_IF_ERROR(
        AgreeOnCall(PrepareToSet(param, data, &whole), param, control()));
    absl::Status set = SetOwner(OwnerOf(param), data, whole);
    if (set.ok()) return set;
    stranded_.push_back(whole);
    return pipeline_->Fail(std::move(set));
  }

  absl::Status Gather(int layer_set, GatherPass pass) override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    if (pass < GatherPass::kForward || pass > GatherPass::kNone) {
      return absl::InvalidArgumentError(
          absl::StrCat("there is no gather pass ", static_cast<int>(pass)));
    }
    return pipeline_->Gather(layer_set, pass);
  }

  absl::Status Release(int layer_set, Stream stream) override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    ZEROMINI_RETURN_IF_ERROR(CheckStream(stream));
    return pipeline_->Release(layer_set, stream);
  }

  absl::Status GradReady(int param, const void* grad, Stream stream) override {
    ZEROMINI_RETURN_IF_ERROR(CheckParam(param));
    ZEROMINI_RETURN_IF_ERROR(CheckStream(stream));
    const PlannedParam& planned = plan_.params[param];
    if (planned.frozen) {
      return absl::InvalidArgumentError(absl::StrCat(
          "parameter '", planned.name, "' is frozen: it takes no gradient"));
    }
    const ParamStore& store = pipeline_->weights().store();
    if (grad == nullptr && store.gradients(param) == nullptr) {
      return NoHome(param);
    }
    return pipeline_->GradReady(param, grad, stream);
  }

  absl::StatusOr<StepReport> Step(const StepOptions& options) override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    absl::StatusOr<StepReport> report = pipeline_->Step(options);
    // An aborted step was taken, and has a last report.
    if (!report.ok() && !absl::IsAborted(report.status())) return report;
    const Traffic now = group_->traffic();
    last_traffic_ = Difference(now, reported_);
    reported_ = now;
    if (report.ok()) report->traffic = last_traffic_;
    return report;
  }

  StepReport LastReport() const override {
    StepReport report = pipeline_->last_report();
    report.traffic = last_traffic_;
    return report;
  }

  absl::Status WaitParam(int param, Stream stream) override {
    ZEROMINI_RETURN_IF_ERROR(CheckParam(param));
    ZEROMINI_RETURN_IF_ERROR(CheckStream(stream));
    return pipeline_->WaitParam(param, stream);
  }

  absl::Status WaitAll() override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    return pipeline_->WaitAll();
  }

  absl::Status BroadcastParams() override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    ZEROMINI_RETURN_IF_ERROR(pipeline_->WaitWeights());
    for (size_t p = 0; p < plan_.params.size(); ++p) {
      const int param = static_cast<int>(p);
      WeightHome& weights = pipeline_->weights();
      if (plan_.params[p].tied_to >= 0 || !weights.KeepsWhole(param)) continue;
      ZEROMINI_RETURN_IF_ERROR(BroadcastTensor(param, weights.tensor(param)));
      pipeline_->state().SetHasMaster(param, false);
    }
    ZEROMINI_RETURN_IF_ERROR(FinishExchange(*group_));
    reported_ = group_->traffic();  // No part of any step.
    return absl::OkStatus();
  }

  absl::StatusOr<ParamState> ConsolidatedState(int param) override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    absl::StatusOr<StateGather> gather = PrepareToGather(param);
    ZEROMINI_RETURN_IF_ERROR(AgreeOnCall(gather.status(), param, control()));
    ZEROMINI_RETURN_IF_ERROR(pipeline_->WaitWeights());
    const absl::Duration patience = StreamPatience(*group_);
    absl::StatusOr<ParamState> state =
        gather->Run(pipeline_->state(), patience);
    absl::StatusOr<int64_t> steps =
        pipeline_->state().ReadSteps(param, patience);
    const absl::Status ended = state.ok() ? steps.status() : state.status();
    if (!ended.ok()) {
      stranded_.push_back(std::make_shared<StateGather>(*std::move(gather)));
      return pipeline_->Fail(ended);
    }
    state->steps = *steps;
    return state;
  }

  absl::Status SetHyperGroup(int group, const HyperGroup& hyper) override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    if (group < 0 || group >= static_cast<int>(options_.hyper_groups.size())) {
      return absl::InvalidArgumentError(absl::StrCat(
          "there is no group ", group, " of ", options_.hyper_groups.size()));
    }
    ZEROMINI_RETURN_IF_ERROR(CheckReplacement(hyper, group, options_));
    const bool stood = pipeline_->group(group).learning_rate_scale == 0;
    if (group_->rank() == 0 && !stood) {
      WarnIfStill(hyper, group, plan_, options_.log);
    }
    pipeline_->SetHyperGroup(group, hyper);
    return absl::OkStatus();
  }

  const zeromini::Plan& plan() const override { return plan_; }
  MemoryReport Memory() const override { return parts_.device->Memory(); }
  Traffic traffic() const override { return group_->traffic(); }

  absl::Status Close() override {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    open_ = false;
    ZEROMINI_RETURN_IF_ERROR(pipeline_->End());
    const absl::Status pending = pipeline_->TellPending();
    ZEROMINI_RETURN_IF_ERROR(groups_.Close());
    return pending;
  }

 private:
  bool Flat(int param) const {
    return options_.memory == MemoryForm::kFlat && param >= 0 &&
           param < static_cast<int>(plan_.params.size());
  }

  absl::Status CheckOpen() const {
    if (open_) return absl::OkStatus();
    return absl::FailedPreconditionError("the optimizer has been closed");
  }

  int OwnerOf(int param) const { return plan_.params[param].owner; }

  Communicator& control() { return group_->control(); }

  absl::Status CheckStream(Stream stream) const {
    const DeviceKind own = parts_.device->compute().device;
    if (stream.is_callers_thread() || stream.device == own) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("the stream is of device ", DeviceKindName(stream.device),
                     ", but the optimizer's device is ", DeviceKindName(own)));
  }

  absl::StatusOr<StateGather> PrepareToGather(int param) {
    ZEROMINI_RETURN_IF_ERROR(CheckParam(param));
    const PlannedParam& planned = plan_.params[param];
    if (!planned.has_state()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "parameter '", planned.name, "' is ",
          planned.frozen ? "frozen" : "tied", ": it has no state"));
    }
    return StateGather::Create(plan_, param, *groups_.of(planned.expert).shards,
                               *parts_.device);
  }

  absl::Status NoHome(int param) const {
    const std::vector<int>& sharers = plan_.params[OwnerOf(param)].sharers;
    const PlannedParam& planned = plan_.params[param];
    std::string why = "with this memory form, stage or dtype";
    if (planned.tied_to >= 0) {
      why = absl::StrCat("since it is tied to '",
                         plan_.params[planned.tied_to].name, "'");
    } else if (sharers.size() > 1) {
      why = absl::StrCat("since '", plan_.params[sharers[1]].name,
                         "' is tied to it");
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "gradient of '", planned.name, "' is null, but it has no GradData() ",
        why, ": pass its pointer"));
  }

  // What errors of an exchange that is of one tensor name.
  static int BucketOf(const PlannedParam& param) {
    return param.has_state() ? param.buckets.front() : -1;
  }

  // From the first rank that holds it to all others that do.
  absl::Status BroadcastTensor(int param, void* tensor) {
    const PlannedParam& planned = plan_.params[param];
    const int64_t bytes = TensorBytes(planned);
    const RankGroups::Family& family = groups_.of(planned.expert);
    const Exchange exchange = {Purpose::kWeights, BucketOf(planned), 0,
                               DType::kFloat32, plan_.hash};
    if (family.replicas != nullptr) {
      ZEROMINI_RETURN_IF_ERROR(
          family.replicas->Broadcast(tensor, bytes, 0, exchange));
    }
    return family.shards->Broadcast(tensor, bytes, 0, exchange);
  }

  // What can go wrong on this rank alone. `whole`: where a tensor is put
  // together that is not kept whole.
  absl::Status PrepareToSet(int param, const void* data, Buffer* whole) {
    ZEROMINI_RETURN_IF_ERROR(CheckParam(param));
    const PlannedParam& planned = plan_.params[OwnerOf(param)];
    const RankGroups::Family& family = groups_.of(planned.expert);
    if (family.first() && data == nullptr) {
      return absl::InvalidArgumentError(absl::StrCat(
          "the data of '", plan_.params[param].name, "' is null",
          planned.expert
              ? absl::StrCat(", and this rank is the first of expert slice ",
                             family.slice)
              : ""));
    }
    if (pipeline_->weights().KeepsWhole(OwnerOf(param))) {
      return absl::OkStatus();
    }
    ZEROMINI_ASSIGN_OR_RETURN(
        *whole,
        parts_.device->Allocate(TensorBytes(planned), MemoryKind::kBuckets));
    return absl::OkStatus();
  }

  absl::Status SetOwner(int param, const void* data, const Buffer& whole) {
    const PlannedParam& planned = plan_.params[param];
    ZEROMINI_RETURN_IF_ERROR(pipeline_->WaitWeights());
    WeightHome& weights = pipeline_->weights();
    const bool whole_here = weights.KeepsWhole(param);
    void* tensor = whole_here ? weights.tensor(param) : whole.get();
    const bool first = groups_.of(planned.expert).first();
    if (first && data != tensor) {
      ZEROMINI_RETURN_IF_ERROR(
          parts_.device->Copy(data, tensor, TensorBytes(planned), Stream{}));
    }
    ZEROMINI_RETURN_IF_ERROR(BroadcastTensor(param, tensor));
    ZEROMINI_RETURN_IF_ERROR(FinishExchange(*group_));
    if (!whole_here) ZEROMINI_RETURN_IF_ERROR(weights.Adopt(param, tensor));
    pipeline_->state().SetHasMaster(param, false);
    reported_ = group_->traffic();  // No part of any step.
    return absl::OkStatus();
  }

  absl::Status CheckParam(int param) const {
    ZEROMINI_RETURN_IF_ERROR(CheckOpen());
    if (param >= 0 && param < static_cast<int>(plan_.params.size())) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(absl::StrCat(
        "there is no parameter ", param, " of ", plan_.params.size()));
  }

  absl::Status PlanHere(absl::Span<const ParamSpec> specs) {
    ZEROMINI_ASSIGN_OR_RETURN(const PlanInputs inputs,
                              PlanInputsOf(specs, options_, group_->size()));
    // Its thread may not have been made.
    ZEROMINI_RETURN_IF_ERROR(parts_.device->Synchronize(
        parts_.device->Record(parts_.device->compute()),
        absl::Now() + StreamPatience(*group_)));
    ZEROMINI_ASSIGN_OR_RETURN(plan_,
                              parts_.make_plan(inputs.specs, inputs.options));
    return absl::OkStatus();
  }

  absl::Status AllocateHere(absl::Span<const ParamSpec> specs) {
    ZEROMINI_ASSIGN_OR_RETURN(
        pipeline_, StepPipeline::Create(options_, plan_, specs, parts_.methods,
                                        *parts_.device, groups_));
    return absl::OkStatus();
  }

  const OptimizerOptions options_;
  const std::unique_ptr<CountingCommunicator> group_;
  OptimizerParts parts_;
  RankGroups groups_;
  zeromini::Plan plan_;
  // What exchanges that failed may still write to, until the pipeline has
  // ended.
  std::vector<std::shared_ptr<void>> stranded_;
  std::unique_ptr<StepPipeline> pipeline_;
  Traffic reported_ = {};
  Traffic last_traffic_ = {};  // Of LastReport().
  bool open_ = true;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Optimizer>> CreateOptimizer(
    const OptimizerOptions& options, absl::Span<const ParamSpec> params,
    Communicator& group, OptimizerParts parts) {
  if (parts.device == nullptr) {
    parts.device = MakeHostDevice(options.kernels == KernelChoice::kReference
                                      ? ReferenceKernels()
                                      : CpuKernels(),
                                  StreamPatience(group), nullptr);
  }
  if (parts.methods == nullptr) {
    parts.methods = [method = MakeBlockMethod()](const PlannedParam&) {
      return method;
    };
  }
  if (parts.make_plan == nullptr) parts.make_plan = MakePlan;
  auto optimizer =
      std::make_unique<ShardedOptimizer>(options, group, std::move(parts));
  ZEROMINI_RETURN_IF_ERROR(optimizer->Init(params));
  return optimizer;
}

absl::StatusOr<std::unique_ptr<Optimizer>> Optimizer::Create(
    const OptimizerOptions& options, absl::Span<const ParamSpec> params,
    Communicator& group) {
  return CreateOptimizer(options, params, group, OptimizerParts());
}

}  // namespace zeromini
