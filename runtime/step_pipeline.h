// StepPipeline: the road of a step. Gradients leave in one bucket order under
// backward; Step() exchanges the scalars, then updates bucket k+1 while the
// weights of bucket k travel.

#ifndef ZEROMINI_RUNTIME_STEP_PIPELINE_H_
#define ZEROMINI_RUNTIME_STEP_PIPELINE_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/bucket_shard.h"
#include "runtime/device.h"
#include "runtime/grad_bucket.h"
#include "runtime/method.h"
#include "runtime/param_store.h"
#include "runtime/scalar_exchange.h"
#include "runtime/weight_gather.h"
#include "zeromini/optimizer.h"

namespace zeromini {

class StepPipeline {
 public:
  // All references must outlive the pipeline.
  static absl::StatusOr<std::unique_ptr<StepPipeline>> Create(
      const OptimizerOptions& options, const Plan& plan,
      const ParamStore& store, const Method& method, Device& device,
      Communicator& group);

  // See Optimizer.
  absl::Status GradReady(int param, const float* gradient, const float* home,
                         Stream stream);
  absl::StatusOr<StepReport> Step(const StepOptions& options);
  absl::Status WaitParam(int param, Stream stream);
  absl::Status WaitAll();

  // Ends what runs; the first error of the group, if any.
  absl::Status Drain();

  void SetGroup(int group, const ParamGroup& hyper) { groups_[group] = hyper; }
  // The weights have been changed from outside: the next step takes its master
  // from them again.
  void ForgetMaster() { has_master_ = false; }

  int64_t steps(int param) const { return steps_[param]; }
  BucketShard& shard(int bucket) { return shards_[bucket]; }

 private:
  StepPipeline(const OptimizerOptions& options, const Plan& plan,
               const ParamStore& store, const Method& method, Device& device,
               Communicator& group);

  absl::Status Build();
  bool NeedsStatistics() const;
  bool KeepsMaster() const;
  int Exchanges() const;  // Per bucket and step.

  absl::Status FireReady();
  absl::Status FireNext();  // Requires fire_mutex_.
  absl::Status FireRest();
  void AddScalars(int bucket);
  absl::Status ExchangeScalars(uint64_t agreement);
  absl::Status CheckPresence();
  absl::Status NameAbsent(const std::vector<int>& params);
  std::string NameNotFinite() const;
  void SetScales(double loss_scale, StepReport* report);
  absl::Status DecideToSkip(StepReport* report);
  absl::Status UpdateAll(const StepOptions& options);
  absl::Status UpdateBuckets(const StepOptions& options);
  void TakeMaster();
  void UpdateRun(int bucket, const RunState& state, float* segment,
                 const StepScalars& scalars, Stream stream);
  void SubmitUpdate(int bucket, float* segment, const StepOptions& options);
  StepScalars ScalarsOf(const PlannedParam& param, int index,
                        const StepOptions& options) const;
  uint64_t AgreementWord(const StepOptions& options) const;
  absl::StatusOr<StepReport> RunStep(const StepOptions& options);
  void EndStep();
  absl::Status Break(absl::Status why);
  absl::Status broken() const;

  const OptimizerOptions options_;
  std::vector<ParamGroup> groups_;
  const Plan& plan_;
  const ParamStore& store_;
  const Method& method_;
  Device& device_;
  Communicator& group_;
  WirePool pool_;
  WeightGather gather_;

  std::vector<std::unique_ptr<GradBucket>> buckets_;
  std::vector<BucketShard> shards_;
  std::vector<int64_t> steps_;  // Per parameter.
  std::vector<char> present_;   // Per parameter, in this step, anywhere.
  const std::vector<char> everything_;  // Per parameter: 1.
  bool has_master_ = false;
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

#endif  // ZEROMINI_RUNTIME_STEP_PIPELINE_H_
