#include "runtime/step_pipeline.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "runtime/agreement.h"
#include "runtime/option_checks.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// One bucket fills while another travels and a third waits its turn.
constexpr int kPoolTarget = 3;

int64_t PoolBytes(const Plan& plan, const OptimizerOptions& options) {
  const bool flat = options.memory == MemoryForm::kFlat;
  int64_t wire = 0;
  for (const BucketPlan& bucket : plan.buckets) {
    const bool at_home = options.stage == 1 && flat && bucket.in_place;
    if (!at_home) wire = std::max(wire, bucket.wire_segment);
  }
  return std::max(wire * plan.options.ranks * int64_t{sizeof(float)},
                  WeightGather::BufferBytes(plan, options));
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
                           const ParamStore& store, const Method& method,
                           Device& device, Communicator& group)
    : options_(options),
      groups_(options.groups),
      plan_(plan),
      store_(store),
      method_(method),
      device_(device),
      group_(group),
      pool_(device, PoolBytes(plan, options), kPoolTarget),
      gather_(plan, store, device, pool_, group, options.weight_wire),
      steps_(plan.params.size(), 0),
      present_(plan.params.size(), 0),
      everything_(plan.params.size(), 1),
      scalars_(static_cast<int>(plan.params.size()),
               static_cast<int>(plan.split_blocks.size())) {}

absl::StatusOr<std::unique_ptr<StepPipeline>> StepPipeline::Create(
    const OptimizerOptions& options, const Plan& plan, const ParamStore& store,
    const Method& method, Device& device, Communicator& group) {
  auto pipeline = std::unique_ptr<StepPipeline>(
      new StepPipeline(options, plan, store, method, device, group));
  ZEROMINI_RETURN_IF_ERROR(pipeline->Build());
  return pipeline;
}

absl::Status StepPipeline::Build() {
  std::vector<int> contributions(plan_.params.size(), 1);
  for (const PlannedParam& param : plan_.params) {
    if (param.tied_to >= 0) ++contributions[param.tied_to];
  }
  const BucketContext context = {plan_,
                                 method_,
                                 store_,
                                 device_,
                                 pool_,
                                 group_.rank(),
                                 options_.stage,
                                 options_.micro_steps,
                                 options_.gradient_wire};
  for (size_t b = 0; b < plan_.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    ZEROMINI_ASSIGN_OR_RETURN(
        auto grads, GradBucket::Create(context, bucket, contributions));
    buckets_.push_back(std::move(grads));
    ZEROMINI_ASSIGN_OR_RETURN(BucketShard shard,
                              BucketShard::Create(plan_, bucket, group_.rank(),
                                                  KeepsMaster(), device_));
    shards_.push_back(std::move(shard));
  }
  return absl::OkStatus();
}

bool StepPipeline::NeedsStatistics() const {
  return options_.check_finite || options_.max_grad_norm > 0 ||
         options_.skip_above_grad_norm > 0;
}

bool StepPipeline::KeepsMaster() const {
  return options_.weight_wire != DType::kFloat32;
}

int StepPipeline::Exchanges() const {
  return options_.stage == 1 ? 1 : options_.micro_steps;
}

absl::Status StepPipeline::Break(absl::Status why) {
  {
    std::lock_guard<std::mutex> lock(broken_mutex_);
    if (!broken_.ok()) return broken_;
    broken_ = why;
  }
  device_.Abandon(why);
  return why;
}

absl::Status StepPipeline::broken() const {
  std::lock_guard<std::mutex> lock(broken_mutex_);
  return broken_;
}

absl::Status StepPipeline::GradReady(int param, const float* gradient,
                                     const float* home, Stream stream) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  const PlannedParam& given = plan_.params[param];
  const int owner = given.tied_to >= 0 ? given.tied_to : param;
  GradBucket& bucket = *buckets_[plan_.params[owner].bucket];
  absl::Status added = bucket.Add(owner, param, gradient, home, stream);
  if (!added.ok()) return IsRefusal(added) ? added : Break(std::move(added));
  return FireReady();
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
  absl::Status fired = buckets_[bucket]->Fire(number, group_);
  if (!fired.ok()) return Break(std::move(fired));
  ++fired_;
  const bool last = number == Exchanges() - 1;
  const bool all = NeedsStatistics();
  if (!last || (!all && shards_[bucket].splits().empty())) {
    return absl::OkStatus();
  }
  device_.Submit(device_.compute(), [this, bucket, all](Stream stream) {
    shards_[bucket].TakeStatistics(device_.kernels(), buckets_[bucket]->shard(),
                                   all, stream);
    return absl::OkStatus();
  });
  return absl::OkStatus();
}

absl::Status StepPipeline::FireRest() {
  std::lock_guard<std::mutex> lock(fire_mutex_);
  const int all = static_cast<int>(buckets_.size()) * Exchanges();
  while (fired_ < all) ZEROMINI_RETURN_IF_ERROR(FireNext());
  return absl::OkStatus();
}

uint64_t StepPipeline::AgreementWord(const StepOptions& options) const {
  FnvHash hash;
  hash.Add(options.learning_rate).Add(options.loss_scale);
  hash.Add(static_cast<double>(optimizer_steps_));
  for (const ParamGroup& group : groups_) AddGroup(group, &hash);
  return hash.value();
}

void StepPipeline::AddScalars(int bucket) {
  const BucketShard& shard = shards_[bucket];
  if (NeedsStatistics()) scalars_.AddNorm(shard.norm());
  for (size_t i = 0; i < shard.splits().size(); ++i) {
    scalars_.AddSplit(shard.splits()[i], shard.partials()[i]);
  }
  // A parameter may have several runs here, but is counted once.
  std::vector<int> not_finite;
  for (size_t r = 0; r < shard.runs().size(); ++r) {
    if (shard.finite(static_cast<int>(r))) continue;
    not_finite.push_back(shard.runs()[r].run->param);
  }
  const bool all_required =
      options_.absent_gradients == AbsentGradients::kError;
  for (int param : plan_.buckets[bucket].params) {
    const GradBucket& gradients = *buckets_[bucket];
    const int least = all_required ? gradients.expected(param) : 1;
    if (gradients.arrived(param) >= least) scalars_.SetPresent(param);
    if (std::find(not_finite.begin(), not_finite.end(), param) !=
        not_finite.end()) {
      scalars_.SetNotFinite(param);
    }
  }
}

absl::Status StepPipeline::ExchangeScalars(uint64_t agreement) {
  scalars_.Clear();
  scalars_.SetAgreement(agreement);
  for (size_t b = 0; b < buckets_.size(); ++b) AddScalars(static_cast<int>(b));
  ZEROMINI_RETURN_IF_ERROR(group_.AllReduce(
      scalars_.data(), scalars_.size(), DType::kInt64, ReduceOp::kSum,
      Exchange{Purpose::kScalars, -1, 0, DType::kFloat32, plan_.hash}));
  return FinishExchange(group_, device_);
}

absl::Status StepPipeline::NameAbsent(const std::vector<int>& params) {
  const int first = params.front();
  const GradBucket& bucket = *buckets_[plan_.params[first].bucket];
  std::vector<int> ranks;
  ZEROMINI_RETURN_IF_ERROR(RanksWhere(
      bucket.arrived(first) < bucket.expected(first), group_, device_, &ranks));
  return absl::FailedPreconditionError(absl::StrCat(
      "gradient of '", plan_.params[first].name, "' is missing on rank",
      ranks.size() == 1 ? " " : "s ", absl::StrJoin(ranks, ", "), " of ",
      group_.size(), " in step ", optimizer_steps_ + 1,
      params.size() > 1
          ? absl::StrCat(", and those of ", params.size() - 1, " more")
          : "",
      "; nothing was updated (absent_gradients is kError)"));
}

absl::Status StepPipeline::CheckPresence() {
  std::vector<int> absent;
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const int param = static_cast<int>(p);
    present_[p] = 0;
    if (plan_.params[p].bucket < 0) continue;
    const int ranks = scalars_.RanksPresent(param);
    const bool required = options_.absent_gradients == AbsentGradients::kError;
    if (required && ranks < group_.size()) absent.push_back(param);
    present_[p] = ranks > 0 ? 1 : 0;
  }
  return absent.empty() ? absl::OkStatus() : NameAbsent(absent);
}

std::string StepPipeline::NameNotFinite() const {
  std::string first;
  int more = -1;
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    if (scalars_.RanksNotFinite(static_cast<int>(p)) == 0) continue;
    if (first.empty()) first = plan_.params[p].name;
    ++more;
  }
  if (first.empty()) return first;
  return absl::StrCat(
      "gradient of '", first, "' is not finite after the sum ", "over ",
      group_.size(), " ranks in step ", optimizer_steps_ + 1,
      more > 0 ? absl::StrCat(", nor are those of ", more, " more") : "");
}

void StepPipeline::SetScales(double loss_scale, StepReport* report) {
  const double contributions =
      static_cast<double>(group_.size()) * options_.micro_steps;
  gradient_scale_ =
      (options_.reduction == Reduction::kMean ? 1 / contributions : 1) /
      loss_scale;
  report->grad_norm = std::numeric_limits<double>::quiet_NaN();
  report->clip_scale = 1;
  if (!NeedsStatistics()) return;
  report->grad_norm = std::sqrt(scalars_.SumOfSquares()) * gradient_scale_;
  if (options_.max_grad_norm > 0 &&
      report->grad_norm > options_.max_grad_norm) {
    // As torch.nn.utils.clip_grad_norm_, whose 1e-6 guards a zero norm.
    report->clip_scale = options_.max_grad_norm / (report->grad_norm + 1e-6);
    gradient_scale_ *= report->clip_scale;
  }
}

absl::Status StepPipeline::DecideToSkip(StepReport* report) {
  report->skipped_because = NameNotFinite();
  if (!report->skipped_because.empty()) {
    if (options_.non_finite == NonFiniteGradients::kError) {
      return absl::InvalidArgumentError(
          absl::StrCat(report->skipped_because, "; nothing was updated"));
    }
    report->skipped = true;
    report->not_finite = true;
    report->grad_norm = std::numeric_limits<double>::quiet_NaN();
    return absl::OkStatus();
  }
  const double limit = options_.skip_above_grad_norm;
  if (limit > 0 && report->grad_norm > limit) {
    report->skipped = true;
    report->skipped_because = absl::StrCat(
        "the gradient's norm is ", report->grad_norm, " in step ",
        optimizer_steps_ + 1, ", above skip_above_grad_norm, ", limit);
  }
  return absl::OkStatus();
}

absl::StatusOr<StepReport> StepPipeline::RunStep(const StepOptions& options) {
  StepReport report;
  const absl::Time start = absl::Now();
  ZEROMINI_RETURN_IF_ERROR(FireRest());
  ZEROMINI_RETURN_IF_ERROR(FinishExchange(group_, device_));
  ZEROMINI_RETURN_IF_ERROR(device_.Synchronize(
      device_.Record(device_.compute()), absl::Now() + StreamPatience(group_)));
  report.seconds_exposed_gradients = Seconds(start);

  const absl::Time scalars_start = absl::Now();
  const uint64_t agreement = AgreementWord(options);
  ZEROMINI_RETURN_IF_ERROR(ExchangeScalars(agreement));
  report.seconds_scalars = Seconds(scalars_start);
  if (!scalars_.Agreed(agreement, group_.size())) {
    return absl::InvalidArgumentError(absl::StrCat(
        "ranks disagree on the learning rate, loss scale or hyper-parameters "
        "of step ",
        optimizer_steps_ + 1, "; rank ", group_.rank(), " has ",
        options.learning_rate, " and ", options.loss_scale));
  }
  // Only now, when all ranks are known to have the same.
  if (!std::isfinite(options.learning_rate) ||
      !std::isfinite(options.loss_scale) || options.loss_scale <= 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "step ", optimizer_steps_ + 1, ": learning rate ",
        options.learning_rate, " and loss scale ", options.loss_scale,
        " must be finite, the scale positive; nothing was updated"));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckPresence());
  report.absent_params = 0;
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    if (plan_.params[p].bucket >= 0 && !present_[p]) ++report.absent_params;
  }
  SetScales(options.loss_scale, &report);
  ZEROMINI_RETURN_IF_ERROR(DecideToSkip(&report));
  if (!report.skipped) {
    const absl::Time update_start = absl::Now();
    absl::Status updated = UpdateAll(options);
    if (!updated.ok()) {
      return absl::Status(
          updated.code(),
          absl::StrCat(updated.message(), " (weights are partly updated)"));
    }
    ++optimizer_steps_;
    report.seconds_update =
        static_cast<double>(kernel_nanos_.exchange(0)) * 1e-9;
    if (options.wait) {
      report.seconds_exposed_weights =
          std::max(0.0, Seconds(update_start) - report.seconds_update);
    }
  }
  report.step = optimizer_steps_;
  report.seconds_total = Seconds(start);
  return report;
}

absl::StatusOr<StepReport> StepPipeline::Step(const StepOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  absl::StatusOr<StepReport> report = RunStep(options);
  EndStep();
  if (report.ok()) return report;
  absl::Status stream_state = Drain();
  if (IsRefusal(report.status()) && stream_state.ok()) return report;
  return Break(report.status());
}

void StepPipeline::EndStep() {
  std::lock_guard<std::mutex> lock(fire_mutex_);
  fired_ = 0;
  for (auto& bucket : buckets_) bucket->Reset();
}

}  // namespace zeromini
