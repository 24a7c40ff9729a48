// StepPipeline: the order of a step's stations. Gradients go down the GradRoad
// under backward; Step() lets the StepDecider decide, then the ShardUpdate move
// bucket k+1 while the WeightHome brings back bucket k.
//
// Locks: the exchange lock orders everything that enqueues exchanges outside of
// Step(); broken_mutex_ is taken inside of it, never around it. Buckets and
// pools have locks of their own, inside of both.

#ifndef ZEROMINI_RUNTIME_STEP_STEP_PIPELINE_H_
#define ZEROMINI_RUNTIME_STEP_STEP_PIPELINE_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/device/lease_pool.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/shard_state.h"
#include "runtime/state/weight_home.h"
#include "runtime/step/grad_road.h"
#include "runtime/step/method.h"
#include "runtime/step/shard_update.h"
#include "runtime/step/step_decider.h"
#include "zeromini/optimizer.h"

namespace zeromini {

class StepPipeline {
 public:
  // Local: allocates. All references must outlive the pipeline.
  static absl::StatusOr<std::unique_ptr<StepPipeline>> Create(
      const OptimizerOptions& options, const Plan& plan,
      absl::Span<const ParamSpec> specs, const MethodChoice& methods,
      Device& device, RankGroups& ranks);

  // See Optimizer.
  absl::Status GradReady(int param, const void* gradient, Stream stream);
  absl::Status Gather(int layer_set, GatherPass pass);
  absl::Status Release(int layer_set, Stream stream);
  absl::StatusOr<StepReport> Step(const StepOptions& options);
  absl::Status WaitParam(int param, Stream stream);
  absl::Status WaitAll();
  // WaitAll() without the errors of decisions that come late, which are told
  // to the caller and never inside of a collective call.
  absl::Status WaitWeights();
  // Completes the last report: of what is drained, at once. The errors of steps
  // that were pending.
  absl::Status TellPending();
  const StepReport& last_report() const { return last_report_; }

  // A collective call failed on this rank after all had agreed to it: breaks
  // the group, so that no peer waits. Returns why.
  absl::Status Fail(absl::Status why) { return BreakOrdered(std::move(why)); }

  // Nothing refers to the pipeline any more. If what was queued does not end in
  // time it is dropped, which breaks the group.
  absl::Status End();

  void SetHyperGroup(int group, const HyperGroup& hyper);
  const HyperGroup& group(int index) const { return hyper_groups_[index]; }

  ShardState& state() { return *state_; }
  WeightHome& weights() { return *home_; }

 private:
  StepPipeline(const OptimizerOptions& options, const Plan& plan,
               Device& device, RankGroups& ranks);

  absl::Status MakeMethods(const MethodChoice& methods);
  absl::Status BuildStations(absl::Span<const ParamSpec> specs);
  std::vector<SplitTarget> SplitTargets() const;

  // `now`, with what `older` says; either may be OK.
  static absl::Status Both(const absl::Status& now, const absl::Status& older);
  static bool IsRefusal(const absl::Status& status);
  absl::Status FireReady();
  absl::Status FireRest();
  StepQuestion Ask(const StepOptions& options) const;
  // All ranks alike: the host must know the decision before it goes on.
  bool MustRead() const;
  void NoteRefresh(const StepAnswer& answer);
  bool FreshMaster(int param) const;
  absl::StatusOr<StepReport> RunStep(const StepOptions& options);
  absl::Status Close(const StepQuestion& question);
  // The oldest decision that is unread, into `report` and, if it is an error,
  // `judged`; blocks until it is made, and fails only if that fails.
  // `together`: all ranks are at this point.
  absl::StatusOr<StepAnswer> ReadDecision(bool together, StepReport* report,
                                          absl::Status* judged);
  // All but `unread`, of steps before that of `newest`.
  absl::Status ReadOlder(int unread, StepReport* newest);
  // All; `newest` is of the last.
  absl::Status ReadAll(StepReport* newest, absl::Status* judged);
  absl::Status Judge(const StepQuestion& question, const StepAnswer& answer,
                     bool together, StepReport* report);
  absl::Status RefuseHere(const StepQuestion& question);
  std::shared_ptr<const Moves> MovesOf(const StepAnswer* answer) const;
  absl::Status UpdateAll(const StepAnswer* answer);
  absl::Status FinishUpdate(const StepAnswer* answer, bool wait);
  void FillDeviceTimes(int64_t landed, StepReport* report);
  void FillTimes(int64_t start, int64_t decided, int64_t end, bool wait,
                 StepReport* report);
  absl::Status RefreshShared();
  absl::Status RefreshShared(int param);
  absl::Status Await(const Event& event);
  absl::Status AwaitWeights();
  absl::Status Drain();  // Ends what runs; the first error, if any.
  absl::Status EndFailedStep(absl::Status why);
  void EndStep();
  // The group's error, with what this rank knows of calls that did not match.
  absl::Status Explain(absl::Status why) const;  // Requires exchange_mutex_.
  absl::Status Break(absl::Status why);
  absl::Status BreakOrdered(absl::Status why);  // Break(Explain(why)).
  absl::Status broken();  // OK if nothing has called Break().

  const OptimizerOptions options_;
  std::vector<HyperGroup> hyper_groups_;
  const Plan& plan_;
  Device& device_;
  RankGroups& ranks_;
  Communicator& group_;  // All ranks.
  LeasePool pool_;

  std::vector<ParamMethod> methods_;
  std::unique_ptr<ShardState> state_;
  std::unique_ptr<WeightHome> home_;
  std::unique_ptr<StepDecider> decider_;
  std::unique_ptr<GradRoad> road_;
  std::unique_ptr<ShardUpdate> update_;

  int64_t calls_ = 0;    // Of Step() that came to a decision.
  int64_t updates_ = 0;  // Of those whose decision was read, that updated.
  StepReport last_report_;
  absl::Status late_error_;  // Not told yet.
  bool refreshed_ = false;   // In this step, all that was due.

  std::mutex exchange_mutex_;
  std::mutex broken_mutex_;
  absl::Status broken_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_STEP_PIPELINE_H_
