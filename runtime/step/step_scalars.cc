// What a step decides from sums over all ranks: who gave gradients, the norm,
// the scale of the update, and whether there is an update at all.

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "runtime/group/agreement.h"
#include "runtime/options/option_checks.h"
#include "runtime/options/option_fields.h"
#include "runtime/step/step_pipeline.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

double StepPipeline::MeanScale(double loss_scale) const {
  const double contributions =
      static_cast<double>(group_.size()) * options_.micro_steps;
  return (options_.reduction == Reduction::kMean ? 1 / contributions : 1) /
         loss_scale;
}

void StepPipeline::ClampAll(double loss_scale) {
  if (options_.max_grad_value == 0) return;
  // With a bad scale nothing is clipped, and the step will be refused.
  const float limit =
      static_cast<float>(options_.max_grad_value / MeanScale(loss_scale));
  for (size_t b = 0; b < buckets_.size(); ++b) {
    SubmitStatistics(static_cast<int>(b), limit);
  }
}

uint64_t StepPipeline::AgreementWord(const StepOptions& options) const {
  FnvHash hash;
  hash.Add(options.learning_rate).Add(options.loss_scale);
  hash.Add(static_cast<double>(optimizer_steps_));
  for (const HyperGroup& group : groups_) AddGroup(group, &hash);
  return hash.value();
}

std::vector<HyperGroup> StepPipeline::AppliedGroups() const {
  std::vector<char> decays(groups_.size(), 0);
  for (const PlannedParam& param : plan_.params) {
    if (param.bucket >= 0 && Decays(param)) decays[param.hyper_group] = 1;
  }
  std::vector<HyperGroup> applied = groups_;
  for (size_t g = 0; g < applied.size(); ++g) {
    if (!decays[g]) applied[g].weight_decay = 0;
  }
  return applied;
}

// Collective: every rank knows from the sums that not all agree.
absl::Status StepPipeline::NameDisagreement(const StepOptions& options) {
  std::string difference;
  ZEROMINI_RETURN_IF_ERROR(
      NameOddField(StepFields(options, optimizer_steps_, groups_), group_,
                   device_, &difference));
  return absl::InvalidArgumentError(absl::StrCat(
      "ranks disagree on the learning rate, loss scale or hyper-parameters "
      "of step ",
      optimizer_steps_ + 1, difference.empty() ? "" : ": ", difference,
      "; nothing was updated"));
}

// Only after the exchange, when all ranks are known to have the same.
absl::Status StepPipeline::CheckNumbers(const StepOptions& options,
                                        uint64_t agreement) {
  if (!scalars_.Agreed(agreement, group_.size())) {
    return NameDisagreement(options);
  }
  if (std::isnan(options.learning_rate)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "step ", optimizer_steps_ + 1,
        ": the learning rate is not given, or not a number: learning_rate must "
        "be finite, 0 to move nothing; nothing was updated"));
  }
  const absl::Status numbers = CheckStep(options, options_, AppliedGroups(),
                                         MeanScale(options.loss_scale));
  if (numbers.ok()) return numbers;
  return absl::InvalidArgumentError(absl::StrCat("step ", optimizer_steps_ + 1,
                                                 ": ", numbers.message(),
                                                 "; nothing was updated"));
}

// Expert slices have different blocks under one index.
int StepPipeline::SplitSlot(int split) const {
  const int bucket = plan_.params[plan_.split_blocks[split].param].bucket;
  const int slice = groups_of_ranks_.of(plan_.buckets[bucket]).slice;
  return split + slice * static_cast<int>(plan_.split_blocks.size());
}

void StepPipeline::AddScalars(int bucket) {
  const BucketShard& shard = shards_[bucket];
  // Other replicas have the same sums.
  const bool counts = groups_of_ranks_.of(plan_.buckets[bucket]).replica == 0;
  if (counts && TakesAllSums()) scalars_.AddNorm(shard.norm());
  for (size_t i = 0; counts && i < shard.splits().size(); ++i) {
    const BucketShard::Partial& partial = shard.partials()[i];
    scalars_.AddSplit(SplitSlot(shard.splits()[i]), partial.finite,
                      partial.not_finite);
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
  // Of what shares storage, the one that has not come on some rank.
  const std::vector<int> sharers = SharersOf(plan_)[first];
  int named = first;
  std::vector<int> ranks;
  for (int sharer : sharers) {
    ZEROMINI_RETURN_IF_ERROR(
        RanksWhere(bucket.Lacks(first, sharer), group_, device_, &ranks));
    named = sharer;
    if (!ranks.empty()) break;
  }
  const std::string tie =
      named == first
          ? ""
          : absl::StrCat(" (tied to '", plan_.params[first].name, "')");
  return absl::FailedPreconditionError(absl::StrCat(
      "gradient of '", plan_.params[named].name, "'", tie,
      " is missing on rank", ranks.size() == 1 ? " " : "s ",
      absl::StrJoin(ranks, ", "), " of ", group_.size(), " in step ",
      optimizer_steps_ + 1,
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

int64_t StepPipeline::CountAbsent() const {
  int64_t absent = 0;
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    if (plan_.params[p].bucket >= 0 && !present_[p]) ++absent;
  }
  return absent;
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
  gradient_scale_ = MeanScale(loss_scale);
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
  // Sums that only the update needs decide nothing: which there are depends on
  // the number of ranks and on formats.
  if (NeedsStatistics()) report->skipped_because = NameNotFinite();
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

}  // namespace zeromini
