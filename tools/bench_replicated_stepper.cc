#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <vector>

#include "tools/agree_on.h"
#include "tools/bench_stepper_kinds.h"
#include "tools/stopwatch.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/kernels.h"
#include "zeromini/options.h"

namespace zeromini::tools {
namespace {

class ReplicatedStepper : public Stepper {
 public:
  ReplicatedStepper(const StepSettings& settings, const Workload& workload,
                    BenchRank& rank)
      : clip_(settings.clip), workload_(workload), rank_(rank) {}

  absl::Status Init() {
    const int64_t n = workload_.elements;
    weights_ = AllocateFloats(n, kFirstWeight);
    gradients_ = AllocateFloats(n, 0);
    momentum_ = AllocateFloats(n, 0);
    second_moment_ = AllocateFloats(n, 0);
    const bool all = weights_ && gradients_ && momentum_ && second_moment_;
    return AgreeOn(all ? absl::OkStatus() : NoMemoryForParameters(n),
                   rank_.group);
  }

  std::optional<LayoutFacts> Layout() const override { return std::nullopt; }

  void Prepare() override {
    FillGradient(rank_.group.rank(), workload_.elements, gradients_.get());
  }

  absl::StatusOr<StepSeconds> Step() override {
    const Stopwatch watch;
    ComputeAll(workload_.Forward());
    ComputeAll(workload_.Backward());
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
  StepperCounts Counts() const override { return {}; }

  std::optional<int64_t> BufferBytes() const override { return std::nullopt; }

  absl::Status Close() override { return absl::OkStatus(); }

 private:
  void ComputeAll(ComputePass pass) {
    pass.Compute(workload_.computed_elements);
    pass.Finish();
  }

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
    scalars.learning_rate = kStepLearningRate;
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

  // In whole rows, and one of what is left.
  absl::StatusOr<double> GradientNorm() {
    constexpr int64_t kRow = 1024;
    const int64_t rows = workload_.elements / kRow;
    const int64_t left = workload_.elements % kRow;
    row_sums_.assign(rows + 1, 0);
    ZEROMINI_RETURN_IF_ERROR(CpuKernels().row_sums(
        {gradients_.get(), rows, kRow, row_sums_.data()}, Stream()));
    if (left > 0) {
      ZEROMINI_RETURN_IF_ERROR(CpuKernels().row_sums(
          {gradients_.get() + rows * kRow, 1, left, &row_sums_[rows]},
          Stream()));
    }
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

// Weights, gradients, momentum and second moments.
int64_t ReplicatedBytes(const Workload& workload) {
  return 4 * workload.elements * int64_t{sizeof(float)};
}

absl::StatusOr<std::unique_ptr<Stepper>> MakeReplicatedStepper(
    const StepSettings& settings, const Workload& workload, BenchRank& rank) {
  auto stepper = std::make_unique<ReplicatedStepper>(settings, workload, rank);
  ZEROMINI_RETURN_IF_ERROR(stepper->Init());
  return stepper;
}

}  // namespace zeromini::tools
