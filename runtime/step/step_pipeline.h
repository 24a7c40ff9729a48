// StepPipeline: the road of a step. Gradients leave in one bucket order under
// backward; Step() exchanges the scalars, then updates bucket k+1 while the
// weights of bucket k travel.

#ifndef ZEROMINI_RUNTIME_STEP_STEP_PIPELINE_H_
#define ZEROMINI_RUNTIME_STEP_STEP_PIPELINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/bucket_shard.h"
#include "runtime/state/method.h"
#include "runtime/state/param_store.h"
#include "runtime/state/weight_shards.h"
#include "runtime/step/grad_bucket.h"
#include "runtime/step/scalar_exchange.h"
#include "runtime/step/tiled_update.h"
#include "runtime/step/weight_gather.h"
#include "zeromini/optimizer.h"

namespace zeromini {

class StepPipeline {
 public:
  // All references must outlive the pipeline.
  static absl::StatusOr<std::unique_ptr<StepPipeline>> Create(
      const OptimizerOptions& options, const Plan& plan, ParamStore& store,
      std::shared_ptr<const Method> method, Device& device, RankGroups& groups);

  // See Optimizer.
  absl::Status GradReady(int param, const void* gradient, const float* home,
                         Stream stream);
  absl::Status Gather(int layer_set, GatherPass pass);
  absl::Status Release(int layer_set, Stream stream);
  absl::StatusOr<StepReport> Step(const StepOptions& options);
  absl::Status WaitParam(int param, Stream stream);
  absl::Status WaitAll();

  // Nothing refers to the pipeline any more. If what was queued does not end in
  // time it is dropped, which breaks the group.
  absl::Status End();

  void SetHyperGroup(int group, const HyperGroup& hyper);
  const HyperGroup& group(int index) const { return groups_[index]; }
  // The weights have been changed from outside: the next step takes their
  // master from them again.
  void ForgetMaster(int param) { has_master_[param] = 0; }

  int64_t steps(int param) const { return steps_[param]; }
  BucketShard& shard(int bucket) { return shards_[bucket]; }
  WeightShards& weights() { return weights_; }

 private:
  StepPipeline(const OptimizerOptions& options, const Plan& plan,
               ParamStore& store, std::shared_ptr<const Method> method,
               Device& device, RankGroups& groups);

  absl::Status Build();
  bool NeedsStatistics() const;
  int RankInPlan(int bucket) const;
  bool TakesAllSums() const;
  bool KeepsWireMaster(int bucket) const;
  bool Decays(const PlannedParam& param) const;
  // What updates make of the groups: one in which nothing decays has no decay.
  std::vector<HyperGroup> AppliedGroups() const;
  int Exchanges() const;  // Per bucket and step.

  absl::Status FireReady();
  absl::Status FireNext();  // Requires fire_mutex_.
  absl::Status FireRest();
  void SubmitStatistics(int bucket, float limit);
  void ClampAll(double loss_scale);
  double MeanScale(double loss_scale) const;
  int SplitSlot(int split) const;
  void AddScalars(int bucket);
  absl::Status ExchangeScalars(uint64_t agreement);
  absl::Status NameDisagreement(const StepOptions& options);
  absl::Status CheckNumbers(const StepOptions& options, uint64_t agreement);
  absl::Status CheckPresence();
  int64_t CountAbsent() const;
  absl::Status NameAbsent(const std::vector<int>& params);
  std::string NameNotFinite() const;
  void SetScales(double loss_scale, StepReport* report);
  absl::Status DecideToSkip(StepReport* report);
  absl::Status UpdateAll(const StepOptions& options);
  absl::Status UpdateBuckets(const StepOptions& options);
  void UpdateShards(const StepOptions& options);
  void SetMoved();
  bool AnyMoved(int bucket, const std::vector<char>& moved) const;
  void TakeMasters();
  void TakeMaster(int bucket, const RunState& state);
  void UpdateRun(int bucket, const RunState& state, void* segment,
                 const StepScalars& scalars, Stream stream);
  void SubmitUpdate(int bucket, void* segment, const StepOptions& options);
  StepScalars ScalarsOf(const PlannedParam& param, int index,
                        const StepOptions& options) const;
  uint64_t AgreementWord(const StepOptions& options) const;
  absl::StatusOr<StepReport> RunStep(const StepOptions& options);
  absl::Status FinishGradients(double loss_scale);
  absl::Status Update(const StepOptions& options, StepReport* report);
  absl::Status Await(const Event& event);
  absl::Status AwaitWeights();
  absl::Status Drain();  // Ends what runs; the first error, if any.
  absl::Status EndFailedStep(absl::Status why);
  void EndStep();
  std::string OrderHint() const;  // Requires fire_mutex_.
  // The group's error, with what this rank knows of calls that did not match.
  absl::Status Explain(absl::Status why) const;  // Requires fire_mutex_.
  absl::Status Break(absl::Status why);
  absl::Status BreakOrdered(absl::Status why);  // Break(Explain(why)).
  absl::Status broken();  // OK if nothing has called Break().

  const OptimizerOptions options_;
  std::vector<HyperGroup> groups_;
  const Plan& plan_;
  const ParamStore& store_;
  const std::shared_ptr<const Method> method_;
  Device& device_;
  RankGroups& groups_of_ranks_;
  Communicator& group_;  // All ranks.
  WirePool pool_;
  WeightGather gather_;   // Stages 1 and 2.
  WeightShards weights_;  // Stage 3.
  TiledUpdate tiles_;
  const bool coded_;  // Some weights or state are not plain fp32.

  std::vector<std::unique_ptr<GradBucket>> buckets_;
  std::vector<BucketShard> shards_;
  std::vector<int64_t> steps_;    // Per parameter.
  std::vector<char> present_;     // Per parameter, in this step, anywhere.
  std::vector<char> moved_;       // Per parameter: its weights travel.
  std::vector<char> has_master_;  // Per parameter.
  ScalarExchange scalars_;
  int64_t optimizer_steps_ = 0;
  double gradient_scale_ = 1;

  std::mutex fire_mutex_;
  int fired_ = 0;  // Exchanges of this step that have left.
  std::atomic<int64_t> kernel_nanos_{0};

  mutable std::mutex broken_mutex_;
  absl::Status broken_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_STEP_PIPELINE_H_
