#include "tools/bench_stepper.h"

#include <algorithm>
#include <new>

#include "absl/strings/str_cat.h"
#include "tools/bench_stepper_kinds.h"

namespace zeromini::tools {

Floats AllocateFloats(int64_t elements, float value) {
  Floats floats(new (std::nothrow) float[elements]);
  if (floats != nullptr) std::fill_n(floats.get(), elements, value);
  return floats;
}

absl::Status NoMemoryForParameters(int64_t elements) {
  return absl::ResourceExhaustedError(
      absl::StrCat("no memory for ", elements, " parameters on each rank"));
}

void FillGradient(int rank, int64_t elements, float* gradient) {
  for (int64_t i = 0; i < elements; ++i) {
    gradient[i] = 1e-3f * static_cast<float>((i + rank) % 17 - 8);
  }
}

std::string StepperRecipe::Implementation(const Communicator& group) const {
  switch (kind) {
    case StepperKind::kSharded:
      return "zeromini";
    case StepperKind::kShardedByPadding:
      return "zeromini, by padding";
    case StepperKind::kReplicated:
      break;
  }
  return absl::StrCat(group.backend(), "-allreduce+adamw");
}

absl::StatusOr<int64_t> StepperRecipe::HeldBytes(const StepSettings& settings,
                                                 const Workload& workload,
                                                 int ranks) const {
  if (kind == StepperKind::kReplicated) return ReplicatedBytes(workload);
  return ShardedBytes(*this, settings, workload, ranks);
}

absl::StatusOr<std::unique_ptr<Stepper>> StepperRecipe::Make(
    const StepSettings& settings, const Workload& workload,
    BenchRank& rank) const {
  return kind == StepperKind::kReplicated
             ? MakeReplicatedStepper(settings, workload, rank)
             : MakeShardedStepper(*this, settings, workload, rank);
}

}  // namespace zeromini::tools
