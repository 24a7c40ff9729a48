#include "runtime/step/step_pipeline.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/group/agreement.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// One bucket fills while another travels and a third waits its turn.
constexpr int kPoolTarget = 3;

int64_t PoolBytes(const Plan& plan, const OptimizerOptions& options) {
  const bool flat = options.memory == MemoryForm::kFlat;
  int64_t wire = 0;
  const int64_t gathered =
      options.stage == 3 ? 0 : WeightGather::BufferBytes(plan, options);
  for (const BucketPlan& bucket : plan.buckets) {
    const bool at_home = options.stage == 1 && flat && bucket.in_place &&
                         bucket.dtype == DType::kFloat32;
    if (!at_home) wire = std::max(wire, bucket.wire_segment);
  }
  return std::max(wire * plan.options.ranks * int64_t{sizeof(float)}, gathered);
}

// What this rank alone can cause leaves the group whole; the rest does not.
bool IsRefusal(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status);
}

double Seconds(absl::Time since) {
  return absl::ToDoubleSeconds(absl::Now() - since);
}

}  // namespace

StepPipeline::StepPipeline(const OptimizerOptions& options, const Plan& plan,
                           ParamStore& store,
                           std::shared_ptr<const Method> method, Device& device,
                           RankGroups& groups)
    : options_(options),
      groups_(options.hyper_groups),
      plan_(plan),
      store_(store),
      method_(std::move(method)),
      device_(device),
      groups_of_ranks_(groups),
      group_(groups.world()),
      pool_(device, PoolBytes(plan, options), kPoolTarget, group_.overlaps()),
      gather_(plan, store, device, pool_, groups, options.weight_wire),
      weights_(options_, plan, store, device, groups),
      coded_(HasCodedShards(plan, options)),
      steps_(plan.params.size(), 0),
      present_(plan.params.size(), 0),
      moved_(plan.params.size(), 0),
      has_master_(plan.params.size(), 0),
      scalars_(static_cast<int>(plan.params.size()),
               static_cast<int>(plan.split_blocks.size()) * groups.slices()) {}

absl::StatusOr<std::unique_ptr<StepPipeline>> StepPipeline::Create(
    const OptimizerOptions& options, const Plan& plan, ParamStore& store,
    std::shared_ptr<const Method> method, Device& device, RankGroups& groups) {
  auto pipeline = std::unique_ptr<StepPipeline>(new StepPipeline(
      options, plan, store, std::move(method), device, groups));
  ZEROMINI_RETURN_IF_ERROR(pipeline->Build());
  return pipeline;
}

absl::Status StepPipeline::Build() {
  const std::vector<std::vector<int>> sharers = SharersOf(plan_);
  const BucketContext context = {plan_,
                                 method_,
                                 store_,
                                 device_,
                                 pool_,
                                 groups_of_ranks_,
                                 group_.rank(),
                                 options_.stage,
                                 options_.micro_steps,
                                 options_.gradient_wire};
  for (size_t b = 0; b < plan_.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    ZEROMINI_ASSIGN_OR_RETURN(auto grads,
                              GradBucket::Create(context, bucket, sharers));
    buckets_.push_back(std::move(grads));
    ZEROMINI_ASSIGN_OR_RETURN(
        BucketShard shard,
        BucketShard::Create(plan_, bucket, RankInPlan(bucket), options_,
                            KeepsWireMaster(bucket), device_));
    shards_.push_back(std::move(shard));
  }
  ZEROMINI_ASSIGN_OR_RETURN(tiles_,
                            TiledUpdate::Create(plan_, options_, device_));
  return weights_.Allocate();
}

int StepPipeline::RankInPlan(int bucket) const {
  return groups_of_ranks_.of(plan_.buckets[bucket]).shards->rank();
}

bool StepPipeline::NeedsStatistics() const {
  return options_.check_finite || options_.max_grad_norm > 0 ||
         options_.skip_above_grad_norm > 0 || options_.max_grad_value > 0;
}

// A tile is no whole block, so the sums of all must be there before.
bool StepPipeline::TakesAllSums() const { return NeedsStatistics() || coded_; }

bool StepPipeline::KeepsWireMaster(int bucket) const {
  return options_.stage != 3 &&
         RoundsOnWire(plan_, bucket, options_.weight_wire);
}

bool StepPipeline::Decays(const PlannedParam& param) const {
  return param.decays || groups_[param.hyper_group].decay_norms_and_biases;
}

int StepPipeline::Exchanges() const {
  return options_.stage == 1 ? 1 : options_.micro_steps;
}

void StepPipeline::SetHyperGroup(int group, const HyperGroup& hyper) {
  // State was made for it.
  const std::optional<Algorithm> algorithm = groups_[group].algorithm;
  groups_[group] = hyper;
  groups_[group].algorithm = algorithm;
}

absl::Status StepPipeline::Break(absl::Status why) {
  bool first = false;
  {
    std::lock_guard<std::mutex> lock(broken_mutex_);
    first = broken_.ok();
    if (first) broken_ = why;
  }
  if (!first) return broken();
  // Keeps what peers have said already, if it was they who failed.
  groups_of_ranks_.Abort(absl::Status(
      why.code(), absl::StrCat("rank ", group_.rank(), ": ", why.message())));
  device_.Abandon(why);
  return why;
}

absl::Status StepPipeline::broken() {
  absl::Status why;
  {
    std::lock_guard<std::mutex> lock(broken_mutex_);
    why = broken_;
  }
  // Again: of two threads, perhaps only this one can tell the other ranks.
  if (!why.ok()) groups_of_ranks_.Abort(why);
  return why;
}

absl::Status StepPipeline::GradReady(int param, const void* gradient,
                                     const float* home, Stream stream) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  const PlannedParam& given = plan_.params[param];
  const int owner = given.tied_to >= 0 ? given.tied_to : param;
  GradBucket& bucket = *buckets_[plan_.params[owner].bucket];
  absl::Status added = bucket.Add(owner, param, gradient, home, stream);
  if (!added.ok()) return IsRefusal(added) ? added : Break(std::move(added));
  return FireReady();
}

absl::Status StepPipeline::Gather(int layer_set, GatherPass pass) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  // Its exchanges are the same stream's as those of gradients.
  std::lock_guard<std::mutex> lock(fire_mutex_);
  ZEROMINI_RETURN_IF_ERROR(weights_.CheckGather(layer_set));
  absl::Status gathered = weights_.Gather(layer_set, pass);
  return gathered.ok() ? gathered : Break(Explain(std::move(gathered)));
}

absl::Status StepPipeline::Release(int layer_set, Stream stream) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  std::lock_guard<std::mutex> lock(fire_mutex_);
  return weights_.Release(layer_set, stream);
}

absl::Status StepPipeline::FireReady() {
  std::lock_guard<std::mutex> lock(fire_mutex_);
  const int buckets = static_cast<int>(buckets_.size());
  while (fired_ < buckets * Exchanges()) {
    // Backward ends with the first layer, so the last bucket is ready first.
    const int bucket = buckets - 1 - fired_ % buckets;
    if (!buckets_[bucket]->Ready(fired_ / buckets)) break;
    ZEROMINI_RETURN_IF_ERROR(FireNext());
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::FireNext() {
  const int buckets = static_cast<int>(buckets_.size());
  const int bucket = buckets - 1 - fired_ % buckets;
  const int number = fired_ / buckets;
  absl::Status fired = buckets_[bucket]->Fire(
      number, groups_of_ranks_.of(plan_.buckets[bucket]));
  if (!fired.ok()) return Break(Explain(std::move(fired)));
  ++fired_;
  const bool last = number == Exchanges() - 1;
  // What is clipped by value needs the loss scale, which Step() brings.
  if (last && options_.max_grad_value == 0) SubmitStatistics(bucket, 0);
  return absl::OkStatus();
}

void StepPipeline::SubmitStatistics(int bucket, float limit) {
  const bool all = TakesAllSums();
  if (!all && shards_[bucket].splits().empty()) return;
  device_.Submit(device_.compute(), [this, bucket, all, limit](Stream stream) {
    const KernelTable& kernels = device_.kernels();
    float* gradient = buckets_[bucket]->shard();
    if (limit > 0) {
      kernels.clamp({gradient, plan_.buckets[bucket].wire_segment, limit},
                    stream);
    }
    shards_[bucket].TakeStatistics(kernels, gradient, all, stream);
    return absl::OkStatus();
  });
}

absl::Status StepPipeline::FireRest() {
  std::lock_guard<std::mutex> lock(fire_mutex_);
  const int all = static_cast<int>(buckets_.size()) * Exchanges();
  while (fired_ < all) ZEROMINI_RETURN_IF_ERROR(FireNext());
  return absl::OkStatus();
}

absl::Status StepPipeline::FinishGradients(double loss_scale) {
  ZEROMINI_RETURN_IF_ERROR(FireRest());
  ClampAll(loss_scale);
  ZEROMINI_RETURN_IF_ERROR(FinishExchange(group_, device_));
  return Await(device_.Record(device_.compute()));
}

absl::Status StepPipeline::Update(const StepOptions& options,
                                  StepReport* report) {
  const absl::Time start = absl::Now();
  absl::Status updated = UpdateAll(options);
  if (!updated.ok()) {
    return absl::Status(
        updated.code(),
        absl::StrCat(updated.message(), " (weights are partly updated)"));
  }
  ++optimizer_steps_;
  report->seconds_update =
      static_cast<double>(kernel_nanos_.exchange(0)) * 1e-9;
  if (options.wait) {
    report->seconds_exposed_weights =
        std::max(0.0, Seconds(start) - report->seconds_update);
  }
  return absl::OkStatus();
}

absl::StatusOr<StepReport> StepPipeline::RunStep(const StepOptions& options) {
  StepReport report;
  const absl::Time start = absl::Now();
  ZEROMINI_RETURN_IF_ERROR(FinishGradients(options.loss_scale));
  report.seconds_exposed_gradients = Seconds(start);
  const absl::Time scalars_start = absl::Now();
  const uint64_t agreement = AgreementWord(options);
  ZEROMINI_RETURN_IF_ERROR(ExchangeScalars(agreement));
  report.seconds_scalars = Seconds(scalars_start);
  ZEROMINI_RETURN_IF_ERROR(CheckNumbers(options, agreement));
  ZEROMINI_RETURN_IF_ERROR(CheckPresence());
  report.absent_params = CountAbsent();
  SetScales(options.loss_scale, &report);
  ZEROMINI_RETURN_IF_ERROR(DecideToSkip(&report));
  {
    std::lock_guard<std::mutex> lock(fire_mutex_);
    ZEROMINI_RETURN_IF_ERROR(weights_.ReleaseAll());
  }
  if (!report.skipped) ZEROMINI_RETURN_IF_ERROR(Update(options, &report));
  report.step = optimizer_steps_;
  report.seconds_total = Seconds(start);
  return report;
}

absl::StatusOr<StepReport> StepPipeline::Step(const StepOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  absl::StatusOr<StepReport> report = RunStep(options);
  if (!report.ok()) report = EndFailedStep(report.status());
  EndStep();
  return report;
}

absl::Status StepPipeline::EndFailedStep(absl::Status why) {
  // First of all, peers must not wait for us.
  if (!IsRefusal(why)) why = Break(std::move(why));
  if (!Drain().ok()) return BreakOrdered(std::move(why));
  if (!IsRefusal(why)) return why;
  // As a step that updates does: what is gathered may be older than a
  // SetParam().
  std::lock_guard<std::mutex> lock(fire_mutex_);
  absl::Status released = weights_.ReleaseAll();
  return released.ok() ? why : Break(std::move(released));
}

void StepPipeline::EndStep() {
  std::lock_guard<std::mutex> lock(fire_mutex_);
  fired_ = 0;
  for (auto& bucket : buckets_) bucket->Reset();
}

}  // namespace zeromini
