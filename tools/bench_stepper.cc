#include "tools/bench_stepper.h"

#include <algorithm>
#include <cmath>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/agree_on.h"
#include "tools/stopwatch.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/kernels.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {
namespace {

constexpr double kLearningRate = 1e-4;

using Floats = std::unique_ptr<float[]>;

// Null if there is no memory.
Floats Allocate(int64_t elements, float value) {
  Floats floats(new (std::nothrow) float[elements]);
  if (floats != nullptr) std::fill_n(floats.get(), elements, value);
  return floats;
}

absl::Status NoMemory(int64_t elements) {
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for ", elements, " parameters on each rank"));
}

void FillGradient(int rank, int64_t elements, float* gradient) {
  for (int64_t i = 0; i < elements; ++i) {
    gradient[i] = 1e-3f * static_cast<float>((i + rank) % 17 - 8);
  }
}

class ShardedStepper : public Stepper {
 public:
  ShardedStepper(Algorithm algorithm, const StepSettings& settings,
                 const Workload& workload, Communicator& group)
      : algorithm_(algorithm),
        settings_(settings),
        workload_(workload),
        group_(group) {}

  absl::Status Init() {
    OptimizerOptions options;
    options.algorithm = algorithm_;
    options.stage = settings_.stage;
    options.memory = MemoryForm::kFlat;
    options.max_grad_norm = settings_.clip;
    options.non_finite = settings_.clip > 0 ? NonFiniteGradients::kError
                                            : NonFiniteGradients::kIgnore;
    ZEROMINI_ASSIGN_OR_RETURN(
        optimizer_, Optimizer::Create(options, workload_.params, group_));
    for (int p = 0; p < params(); ++p) {
      std::fill_n(static_cast<float*>(optimizer_->ParamData(p)),
                  workload_.ElementsOf(p), 0.02f);
    }
    if (!AccumulatesInPlace()) gradients_ = Allocate(workload_.elements, 0);
    return AgreeOn(AccumulatesInPlace() || gradients_
                       ? absl::OkStatus()
                       : NoMemory(workload_.elements),
                   group_);
  }

  std::string optimizer() const override { return AlgorithmName(algorithm_); }
  std::string implementation() const override { return "zeromini"; }

  void Prepare() override {
    for (int p = 0; p < params(); ++p) {
      FillGradient(group_.rank(), workload_.ElementsOf(p), GradientOf(p));
    }
  }

  absl::StatusOr<StepSeconds> Step() override {
    const Stopwatch watch;
    ZEROMINI_ASSIGN_OR_RETURN(const double waited, Forward());
    ZEROMINI_RETURN_IF_ERROR(Backward());
    StepOptions now;
    now.learning_rate = kLearningRate;
    now.wait = false;
    ZEROMINI_ASSIGN_OR_RETURN(const StepReport report, optimizer_->Step(now));
    return StepSeconds{watch.seconds(), report.seconds_update,
                       report.seconds_exposed_gradients +
                           report.seconds_scalars +
                           std::max(0.0, waited - report.seconds_update)};
  }

  absl::Status Finish() override { return optimizer_->WaitAll(); }

  int64_t SentBetweenHosts() const override {
    int64_t sent = 0;
    for (const LevelBytes& bytes : group_.level_traffic()) {
      sent += bytes.between_hosts;
    }
    return sent;
  }

  absl::Status Close() override { return optimizer_->Close(); }

 private:
  // Returns the seconds it waited for weights, and for the kernels before them.
  absl::StatusOr<double> Forward() {
    double waited = 0;
    for (const BucketPlan& bucket : optimizer_->plan().buckets) {
      const Stopwatch watch;
      for (const Part& part : bucket.parts) {
        ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(part.param));
      }
      waited += watch.seconds();
      workload_.Forward(bucket.elements);
    }
    return waited;
  }

  absl::Status Backward() {
    const std::vector<BucketPlan>& buckets = optimizer_->plan().buckets;
    for (auto bucket = buckets.rbegin(); bucket != buckets.rend(); ++bucket) {
      workload_.Backward(bucket->elements);
      for (const Part& part : bucket->parts) {
        ZEROMINI_RETURN_IF_ERROR(optimizer_->GradReady(
            part.param,
            AccumulatesInPlace() ? nullptr : GradientOf(part.param)));
      }
    }
    return absl::OkStatus();
  }

  int params() const { return static_cast<int>(workload_.params.size()); }

  // Stage 1 exchanges from the memory that backward writes to. At stage 2
  // there is none: the gradient comes from the trainer's own.
  bool AccumulatesInPlace() const { return settings_.stage == 1; }

  float* GradientOf(int param) {
    return AccumulatesInPlace() ? optimizer_->GradData(param)
                                : gradients_.get() + workload_.offsets[param];
  }

  const Algorithm algorithm_;
  const StepSettings settings_;
  const Workload& workload_;
  Communicator& group_;
  std::unique_ptr<Optimizer> optimizer_;
  Floats gradients_;
};

class ReplicatedStepper : public Stepper {
 public:
  ReplicatedStepper(const StepSettings& settings, const Workload& workload,
                    BenchRank& rank)
      : clip_(settings.clip), workload_(workload), rank_(rank) {}

  absl::Status Init() {
    const int64_t n = workload_.elements;
    weights_ = Allocate(n, 0.02f);
    gradients_ = Allocate(n, 0);
    momentum_ = Allocate(n, 0);
    second_moment_ = Allocate(n, 0);
    const bool all = weights_ && gradients_ && momentum_ && second_moment_;
    return AgreeOn(all ? absl::OkStatus() : NoMemory(n), rank_.group);
  }

  std::string optimizer() const override { return "adamw"; }
  std::string implementation() const override {
    return absl::StrCat(rank_.group.backend(), "-allreduce+adamw");
  }

  void Prepare() override {
    FillGradient(rank_.group.rank(), workload_.elements, gradients_.get());
  }

  absl::StatusOr<StepSeconds> Step() override {
    const Stopwatch watch;
    workload_.Forward(workload_.elements);
    workload_.Backward(workload_.elements);
    StepSeconds seconds;
    const Stopwatch exchange;
    ZEROMINI_RETURN_IF_ERROR(AllReduce());
    seconds.exposed = exchange.seconds();
    const Stopwatch update;
    ZEROMINI_RETURN_IF_ERROR(Update());
    seconds.update = update.seconds();
    seconds.total = watch.seconds();
    return seconds;
  }

  absl::Status Finish() override { return absl::OkStatus(); }
  int64_t SentBetweenHosts() const override { return -1; }
  absl::Status Close() override { return absl::OkStatus(); }

 private:
  absl::Status AllReduce() {
    if (rank_.mpi != nullptr) {
      return rank_.mpi->AllReduce(gradients_.get(), workload_.elements);
    }
    ZEROMINI_RETURN_IF_ERROR(
        rank_.group.AllReduce(gradients_.get(), workload_.elements,
                              DType::kFloat32, ReduceOp::kSum, Exchange()));
    return WaitForExchanges(rank_.group);
  }

  absl::Status Update() {
    StepScalars scalars;
    scalars.learning_rate = kLearningRate;
    scalars.weight_decay = HyperGroup().weight_decay;
    scalars.step = ++steps_;
    scalars.gradient_scale = 1.0 / rank_.group.size();
    if (clip_ > 0) {
      ZEROMINI_ASSIGN_OR_RETURN(const double root, GradientNorm());
      const double norm = root * scalars.gradient_scale;
      if (norm > clip_) scalars.gradient_scale *= clip_ / norm;
    }
    return CpuKernels().adamw(
        {weights_.get(), gradients_.get(), momentum_.get(),
         second_moment_.get(), workload_.elements, &scalars},
        Stream());
  }

  absl::StatusOr<double> GradientNorm() {
    constexpr int64_t kRow = 1024;  // The workload is made of whole ones.
    row_sums_.resize(workload_.elements / kRow);
    ZEROMINI_RETURN_IF_ERROR(CpuKernels().row_sums(
        {gradients_.get(), static_cast<int64_t>(row_sums_.size()), kRow,
         row_sums_.data()},
        Stream()));
    return std::sqrt(std::accumulate(row_sums_.begin(), row_sums_.end(), 0.0));
  }

  const double clip_;
  const Workload& workload_;
  BenchRank& rank_;
  Floats weights_;
  Floats gradients_;
  Floats momentum_;
  Floats second_moment_;
  std::vector<double> row_sums_;
  int64_t steps_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Stepper>> MakeShardedStepper(
    Algorithm algorithm, const StepSettings& settings, const Workload& workload,
    BenchRank& rank) {
  auto stepper = std::make_unique<ShardedStepper>(algorithm, settings, workload,
                                                  rank.group);
  ZEROMINI_RETURN_IF_ERROR(stepper->Init());
  return stepper;
}

absl::StatusOr<std::unique_ptr<Stepper>> MakeReplicatedStepper(
    const StepSettings& settings, const Workload& workload, BenchRank& rank) {
  auto stepper = std::make_unique<ReplicatedStepper>(settings, workload, rank);
  ZEROMINI_RETURN_IF_ERROR(stepper->Init());
  return stepper;
}

}  // namespace zeromini::tools
