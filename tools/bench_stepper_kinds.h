// The kinds of steppers, and the memory that they take alike.

#ifndef ZEROMINI_TOOLS_BENCH_STEPPER_KINDS_H_
#define ZEROMINI_TOOLS_BENCH_STEPPER_KINDS_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/bench_stepper.h"

namespace zeromini::tools {

inline constexpr double kStepLearningRate = 1e-4;
inline constexpr float kFirstWeight = 0.02f;

using Floats = std::unique_ptr<float[]>;

// Null if there is no memory.
Floats AllocateFloats(int64_t elements, float value);

absl::Status NoMemoryForParameters(int64_t elements);

void FillGradient(int rank, int64_t elements, float* gradient);

absl::StatusOr<std::unique_ptr<Stepper>> MakeShardedStepper(
    const StepperRecipe& recipe, const StepSettings& settings,
    const Workload& workload, BenchRank& rank);

absl::StatusOr<int64_t> ShardedBytes(const StepperRecipe& recipe,
                                     const StepSettings& settings,
                                     const Workload& workload, int ranks);
int64_t ReplicatedBytes(const Workload& workload);

absl::StatusOr<std::unique_ptr<Stepper>> MakeReplicatedStepper(
    const StepSettings& settings, const Workload& workload, BenchRank& rank);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_STEPPER_KINDS_H_
