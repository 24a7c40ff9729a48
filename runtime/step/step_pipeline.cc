#include "runtime/step/step_pipeline.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/group/agreement.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

void StepPipeline::SetHyperGroup(int group, const HyperGroup& hyper) {
  // State was made for it.
  const std::optional<Algorithm> algorithm = hyper_groups_[group].algorithm;
  hyper_groups_[group] = hyper;
  hyper_groups_[group].algorithm = algorithm;
}

// What this rank alone can cause leaves the group whole; the rest does not.
bool StepPipeline::IsRefusal(const absl::Status& status) {
  return absl::IsInvalidArgument(status) || absl::IsFailedPrecondition(status);
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
  ranks_.Abort(absl::Status(
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
  if (!why.ok()) ranks_.Abort(why);
  return why;
}

absl::Status StepPipeline::Explain(absl::Status why) const {
  // Other codes are no difference between ranks' calls.
  if (!home_->orders_calls() || !absl::IsInvalidArgument(why)) return why;
  const std::string hint = road_->OrderHint();
  return absl::Status(
      why.code(),
      absl::StrCat(why.message(),
                   "; at stage 3 all ranks must call Gather() and GradReady() "
                   "in one order, and with gathers in between a gradient comes "
                   "on all ranks or on none, whatever absent_gradients is",
                   hint.empty() ? "" : "; ", hint));
}

absl::Status StepPipeline::BreakOrdered(absl::Status why) {
  std::lock_guard<std::mutex> lock(exchange_mutex_);
  return Break(Explain(std::move(why)));
}

absl::Status StepPipeline::GradReady(int param, const void* gradient,
                                     Stream stream) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  const float* home = home_->store().gradients(param);
  bool refused = false;
  absl::Status added = road_->Add(
      param, gradient, home, stream, [this] { return FireReady(); }, &refused);
  // What a wait for a buffer finds out may be a difference between ranks'
  // calls.
  return added.ok() || refused ? added : BreakOrdered(std::move(added));
}

absl::Status StepPipeline::FireReady() {
  std::lock_guard<std::mutex> lock(exchange_mutex_);
  while (!road_->AllFired() && road_->NextReady()) {
    absl::Status fired = road_->FireNext();
    if (!fired.ok()) return Break(Explain(std::move(fired)));
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::FireRest() {
  std::lock_guard<std::mutex> lock(exchange_mutex_);
  while (!road_->AllFired()) {
    absl::Status fired = road_->FireNext();
    if (!fired.ok()) return Break(Explain(std::move(fired)));
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::Gather(int layer_set, GatherPass pass) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  // Its exchanges are the same stream's as those of gradients.
  std::lock_guard<std::mutex> lock(exchange_mutex_);
  ZEROMINI_RETURN_IF_ERROR(home_->CheckGather(layer_set));
  absl::Status gathered = home_->Gather(layer_set, pass);
  return gathered.ok() ? gathered : Break(Explain(std::move(gathered)));
}

absl::Status StepPipeline::Release(int layer_set, Stream stream) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  std::lock_guard<std::mutex> lock(exchange_mutex_);
  return home_->Release(layer_set, stream);
}

absl::Status StepPipeline::WaitParam(int param, Stream stream) {
  ZEROMINI_RETURN_IF_ERROR(broken());
  const int owner = plan_.params[param].owner;
  if (!plan_.params[owner].has_state()) return absl::OkStatus();
  std::vector<Event> done;
  {
    // Where weights are whole they change in Step() alone.
    std::unique_lock<std::mutex> lock(exchange_mutex_, std::defer_lock);
    if (home_->orders_calls()) lock.lock();
    ZEROMINI_ASSIGN_OR_RETURN(done, home_->Ready(owner, param));
  }
  for (const Event& event : done) {
    if (!stream.is_callers_thread()) {
      ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(stream, event));
      continue;
    }
    absl::Status passed = Await(event);
    if (!passed.ok()) return BreakOrdered(std::move(passed));
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::WaitWeights() {
  ZEROMINI_RETURN_IF_ERROR(broken());
  absl::Status passed = AwaitWeights();
  return passed.ok() ? passed : BreakOrdered(std::move(passed));
}

absl::Status StepPipeline::WaitAll() {
  ZEROMINI_RETURN_IF_ERROR(WaitWeights());
  return TellPending();
}

absl::Status StepPipeline::TellPending() {
  const bool pending = last_report_.pending;
  absl::Status judged;
  ZEROMINI_RETURN_IF_ERROR(ReadAll(&last_report_, &judged));
  if (pending) FillDeviceTimes(decider_->landed_nanos(), &last_report_);
  if (late_error_.ok()) return judged;
  return Both(judged, std::exchange(late_error_, absl::OkStatus()));
}

// Each wait has all the time: a process may be suspended in the one before.
absl::Status StepPipeline::Await(const Event& event) {
  return device_.Synchronize(event, absl::Now() + StreamPatience(group_));
}

absl::Status StepPipeline::AwaitWeights() {
  // Also what reads weights without moving any: masters taken from them.
  std::vector<Event> pending = {device_.Record(device_.compute())};
  {
    std::lock_guard<std::mutex> lock(exchange_mutex_);
    home_->AddPending(&pending);
  }
  for (const Event& event : pending) ZEROMINI_RETURN_IF_ERROR(Await(event));
  return absl::OkStatus();
}

absl::Status StepPipeline::Drain() {
  absl::Status group = Await(device_.Record(group_.stream()));
  absl::Status compute = Await(device_.Record(device_.compute()));
  return group.ok() ? compute : group;
}

absl::Status StepPipeline::End() {
  absl::Status drained = Drain();
  if (drained.ok()) return drained;
  if (absl::IsDeadlineExceeded(drained)) {
    drained = absl::DeadlineExceededError(absl::StrCat(
        "the optimizer ended before the streams that its exchanges wait for: ",
        drained.message()));
  }
  // Drops what is queued; what runs ends by a deadline of its own.
  absl::Status why = BreakOrdered(std::move(drained));
  Drain().IgnoreError();
  return why;
}

}  // namespace zeromini
