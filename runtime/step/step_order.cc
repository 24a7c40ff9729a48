// The order of Step(): close the road, decide, update, bring weights back.

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/group/agreement.h"
#include "runtime/step/step_messages.h"
#include "runtime/step/step_pipeline.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

double Seconds(int64_t nanos) {
  return std::max(0.0, static_cast<double>(nanos) * 1e-9);
}

}  // namespace

StepQuestion StepPipeline::Ask(const StepOptions& options) const {
  StepQuestion question;
  question.options = options;
  question.groups = hyper_groups_;
  question.number = calls_;
  question.mean_scale = MeanScale(options_, group_.size(), options.loss_scale);
  question.refused = !CheckNumbers(plan_, options_, question).ok();
  const bool any = options_.absent_gradients == AbsentGradients::kSkip;
  question.present.assign(plan_.params.size(), 0);
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const int param = static_cast<int>(p);
    if (!plan_.params[p].has_state()) continue;
    question.present[p] = road_->Present(param, any);
  }
  return question;
}

// With a new master the weights that rest are not rounded yet: they travel,
// absent or not, unless the step is skipped.
bool StepPipeline::FreshMaster(int param) const {
  const PlannedParam& planned = plan_.params[param];
  return planned.has_state() && !state_->has_master(param) &&
         state_->layout(planned.buckets.front()).master_is_segment;
}

bool StepPipeline::MustRead() const {
  if (options_.absent_gradients == AbsentGradients::kError ||
      options_.non_finite == NonFiniteGradients::kError) {
    return true;
  }
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const int param = static_cast<int>(p);
    if (FreshMaster(param) || road_->Refreshes(param)) return true;
  }
  return false;
}

// What was to be refreshed and was not stays due.
void StepPipeline::NoteRefresh(const StepAnswer& answer) {
  refreshed_ = answer.decision.verdict == Verdict::kUpdate;
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const int param = static_cast<int>(p);
    if (!road_->Refreshes(param)) continue;
    refreshed_ = refreshed_ && answer.RanksPresent(param) > 0;
  }
}

absl::Status StepPipeline::Close(const StepQuestion& question) {
  ZEROMINI_RETURN_IF_ERROR(FireRest());
  if (options_.max_grad_value > 0) {
    // With a bad scale nothing is clipped, and the step will be refused.
    ZEROMINI_RETURN_IF_ERROR(road_->ClampAll(
        static_cast<float>(options_.max_grad_value / question.mean_scale)));
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::Judge(const StepQuestion& question,
                                 const StepAnswer& answer, bool together,
                                 StepReport* report) {
  const StepDecision& decision = answer.decision;
  const bool updated = decision.verdict == Verdict::kUpdate;
  updates_ = decision.updates;
  report->step = updates_;
  report->pending = false;
  report->skipped = false;
  report->not_finite = false;
  report->skipped_because.clear();
  report->absent_params = decision.absent;
  report->grad_norm = decision.grad_norm;
  report->clip_scale = decision.clip_scale;
  const DecidedStep decided = {
      plan_, options_, group_, question, answer, updates_ + (updated ? 0 : 1)};
  switch (decision.verdict) {
    case Verdict::kUpdate:
      return absl::OkStatus();
    case Verdict::kDisagreement:
    case Verdict::kRefused: {
      const absl::Status why = decision.verdict == Verdict::kRefused
                                   ? SayRefused(decided)
                                   : SayDisagreement(decided, together);
      report->skipped = true;
      report->skipped_because = std::string(why.message());
      // What this rank refused itself it has told at once.
      return together || !question.refused ? why : absl::OkStatus();
    }
    case Verdict::kAbsent:
      return SayAbsent(decided, *road_);
    case Verdict::kNotFinite:
      report->skipped_because = SayNotFinite(decided);
      if (options_.non_finite == NonFiniteGradients::kError) {
        return absl::InvalidArgumentError(
            absl::StrCat(report->skipped_because, "; nothing was updated"));
      }
      report->not_finite = true;
      report->grad_norm = std::numeric_limits<double>::quiet_NaN();
      break;
    case Verdict::kNormTooLarge:
      report->skipped_because = SayNormTooLarge(decided);
      break;
  }
  report->skipped = true;
  return absl::OkStatus();
}

// Without a wait: no rank updates if one refuses.
absl::Status StepPipeline::RefuseHere(const StepQuestion& question) {
  const StepAnswer none;
  return SayRefused({plan_, options_, group_, question, none, calls_});
}

absl::StatusOr<StepAnswer> StepPipeline::ReadDecision(bool together,
                                                      StepReport* report,
                                                      absl::Status* judged) {
  const StepQuestion question = decider_->oldest();
  ZEROMINI_ASSIGN_OR_RETURN(
      StepAnswer answer, decider_->Read(absl::Now() + StreamPatience(group_)));
  *judged = Judge(question, answer, together, report);
  return answer;
}

// An error of an older step waits in late_error_: ranks that find it out
// earlier than others must not leave them alone in an exchange.
absl::Status StepPipeline::ReadOlder(int unread, StepReport* newest) {
  while (decider_->unread() > unread) {
    StepReport older;
    absl::Status judged;
    ZEROMINI_ASSIGN_OR_RETURN(
        const StepAnswer answer,
        ReadDecision(/*together=*/false, &older, &judged));
    // What was refused is told as an error, on each rank in its own time.
    const bool skipped =
        older.not_finite || answer.decision.verdict == Verdict::kNormTooLarge;
    if (skipped) ++newest->skipped_late;
    if (older.not_finite) ++newest->not_finite_late;
    if (judged.ok() || !late_error_.ok()) continue;
    late_error_ = absl::AbortedError(absl::StrCat(
        "told late, of an older step than the last: ", judged.message()));
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::ReadAll(StepReport* newest, absl::Status* judged) {
  if (decider_->unread() == 0) return absl::OkStatus();
  ZEROMINI_RETURN_IF_ERROR(ReadOlder(1, newest));
  return ReadDecision(/*together=*/false, newest, judged).status();
}

std::shared_ptr<const Moves> StepPipeline::MovesOf(
    const StepAnswer* answer) const {
  auto moves = std::make_shared<Moves>();
  moves->may.assign(plan_.params.size(), 0);
  moves->only_if.assign(plan_.params.size(), nullptr);
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const int param = static_cast<int>(p);
    if (!plan_.params[p].has_state()) continue;
    if (answer == nullptr) {
      moves->may[p] = 1;
      moves->only_if[p] = decider_->scalars(param);
    } else {
      moves->may[p] = FreshMaster(param) || answer->RanksPresent(param) > 0;
    }
  }
  return moves;
}

absl::Status StepPipeline::UpdateAll(const StepAnswer* answer) {
  // Presence is global, so all ranks leave out the same buckets.
  const std::shared_ptr<const Moves> moves = MovesOf(answer);
  ZEROMINI_RETURN_IF_ERROR(update_->TakeMasters());
  ZEROMINI_RETURN_IF_ERROR(RefreshShared());
  for (size_t b = 0; b < plan_.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    if (!moves->Any(plan_.buckets[b])) continue;
    ZEROMINI_ASSIGN_OR_RETURN(const WeightHome::Place place,
                              home_->Open(bucket));
    ZEROMINI_RETURN_IF_ERROR(update_->Submit(bucket, place, moves));
    road_->SetBusy(bucket, device_.Record(device_.compute()));
    ZEROMINI_RETURN_IF_ERROR(home_->Send(bucket, moves));
  }
  return home_->Settle();
}

absl::Status StepPipeline::RefreshShared() {
  for (size_t p = 0; p < plan_.params.size(); ++p) {
    const ParamMethod& method = methods_[p];
    const int param = static_cast<int>(p);
    const bool shares = plan_.params[p].has_state() && method.shared != nullptr;
    if (!shares || !road_->Refreshes(param)) continue;
    ZEROMINI_RETURN_IF_ERROR(RefreshShared(param));
  }
  return absl::OkStatus();
}

// The owner of the whole tensor, which is one unit and so in one bucket, makes
// it, and the ranks of its copy get it.
absl::Status StepPipeline::RefreshShared(int param) {
  const PlannedParam& planned = plan_.params[param];
  const int index = planned.buckets.front();
  const BucketPlan& bucket = plan_.buckets[index];
  const ParamMethod& method = methods_[param];
  Communicator& shards = *ranks_.of(bucket).shards;
  int owner = -1;
  for (size_t rank = 0; rank < bucket.runs.size(); ++rank) {
    for (const Run& run : bucket.runs[rank]) {
      if (run.param != param) continue;
      owner = static_cast<int>(rank);
      if (owner != shards.rank()) continue;
      const float* gradient = road_->shard(index) + run.offset;
      ZEROMINI_RETURN_IF_ERROR(device_.Launch(
          device_.compute(), [this, &planned, &method, gradient,
                              scalars = decider_->scalars(param)](Stream on) {
            return method.method->Refresh(
                device_.kernels(),
                {planned, gradient, method.shared.get(), scalars}, on);
          }));
    }
  }
  ZEROMINI_RETURN_IF_ERROR(
      device_.WaitFor(shards.stream(), device_.Record(device_.compute())));
  ZEROMINI_RETURN_IF_ERROR(shards.Broadcast(
      method.shared.get(), method.method->SharedBytes(planned), owner,
      Exchange{Purpose::kState, index, 0, DType::kFloat32, plan_.hash}));
  ZEROMINI_RETURN_IF_ERROR(
      device_.WaitFor(device_.compute(), device_.Record(shards.stream())));
  // The next gradient is packed with it.
  road_->SetBusy(index, device_.Record(device_.compute()));
  return absl::OkStatus();
}

absl::StatusOr<StepReport> StepPipeline::RunStep(const StepOptions& options) {
  StepReport report;
  const int64_t start = absl::GetCurrentTimeNanos();
  const StepQuestion question = Ask(options);
  const bool must_read = MustRead();
  ZEROMINI_RETURN_IF_ERROR(Close(question));
  ZEROMINI_RETURN_IF_ERROR(
      ReadOlder(must_read ? 0 : StepDecider::kInFlight - 1, &report));
  ZEROMINI_RETURN_IF_ERROR(decider_->Decide(question));
  ++calls_;
  report.pending = true;
  report.step = updates_;
  std::optional<StepAnswer> answer;
  absl::Status judged;
  if (must_read) {
    ZEROMINI_ASSIGN_OR_RETURN(
        answer, ReadDecision(/*together=*/true, &report, &judged));
    ZEROMINI_RETURN_IF_ERROR(judged);
    NoteRefresh(*answer);
  }
  {
    std::lock_guard<std::mutex> lock(exchange_mutex_);
    ZEROMINI_RETURN_IF_ERROR(home_->ReleaseAll());
  }
  const int64_t decided = absl::GetCurrentTimeNanos();
  if (!report.skipped) {
    ZEROMINI_RETURN_IF_ERROR(
        FinishUpdate(answer ? &*answer : nullptr, options.wait));
  }
  if (options.wait) ZEROMINI_RETURN_IF_ERROR(ReadAll(&report, &judged));
  const int64_t end = absl::GetCurrentTimeNanos();
  if (!report.pending) FillTimes(start, decided, end, options.wait, &report);
  report.seconds_total = Seconds(end - start);
  // What this rank refuses others do not know of yet: their exchanges were
  // ours.
  if (!must_read && question.refused) return RefuseHere(question);
  ZEROMINI_RETURN_IF_ERROR(judged);
  return report;
}

absl::Status StepPipeline::FinishUpdate(const StepAnswer* answer, bool wait) {
  absl::Status updated = UpdateAll(answer);
  if (updated.ok() && wait) updated = AwaitWeights();
  if (updated.ok()) return updated;
  return absl::Status(
      updated.code(),
      absl::StrCat(updated.message(), " (weights are partly updated)"));
}

void StepPipeline::FillDeviceTimes(int64_t landed, StepReport* report) {
  report->seconds_scalars = Seconds(decider_->decided_nanos() - landed);
  report->seconds_update = update_->TakeSeconds();
}

void StepPipeline::FillTimes(int64_t start, int64_t decided, int64_t end,
                             bool wait, StepReport* report) {
  const int64_t landed = std::max(start, decider_->landed_nanos());
  report->seconds_exposed_gradients = Seconds(landed - start);
  FillDeviceTimes(landed, report);
  if (!wait || report->skipped) return;
  const int64_t from = std::max(decided, decider_->decided_nanos());
  report->seconds_exposed_weights =
      std::max(0.0, Seconds(end - from) - report->seconds_update);
}

absl::StatusOr<StepReport> StepPipeline::Step(const StepOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  refreshed_ = false;
  absl::StatusOr<StepReport> report = RunStep(options);
  if (report.ok()) {
    last_report_ = *report;
  } else {
    report = EndFailedStep(report.status());
  }
  EndStep();
  if (late_error_.ok()) return report;
  return Both(report.status(), std::exchange(late_error_, absl::OkStatus()));
}

absl::Status StepPipeline::Both(const absl::Status& now,
                                const absl::Status& older) {
  if (now.ok() || older.ok()) return now.ok() ? older : now;
  return absl::Status(now.code(),
                      absl::StrCat(now.message(), "; ", older.message()));
}

absl::Status StepPipeline::EndFailedStep(absl::Status why) {
  // First of all, peers must not wait for us.
  if (!IsRefusal(why)) why = Break(std::move(why));
  if (!Drain().ok()) return BreakOrdered(std::move(why));
  if (!IsRefusal(why)) return why;
  // As a step that updates does: what is gathered may be older than a
  // SetParam().
  std::lock_guard<std::mutex> lock(exchange_mutex_);
  absl::Status released = home_->ReleaseAll();
  return released.ok() ? why : Break(std::move(released));
}

void StepPipeline::EndStep() {
  std::lock_guard<std::mutex> lock(exchange_mutex_);
  road_->Reset(refreshed_);
}

}  // namespace zeromini
