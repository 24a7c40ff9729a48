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

int64_t StepperRecipe::LeastBytes(const StepSettings& settings,
                                  const Workload& workload, int ranks) const {
  const int64_t whole = workload.elements * int64_t{sizeof(float)};
  const int64_t shard = whole / ranks;
  if (kind == StepperKind::kReplicated) return 4 * whole;
  const int64_t weights = settings.stage == 3 ? shard : whole;
  // The trainer's own, where ours are in shards.
  const int64_t gradients = settings.stage == 1 ? whole : whole + shard;
  const int64_t state = algorithm == Algorithm::kAdamW ? 2 * shard : shard;
  return weights + gradients + state;
}

absl::StatusOr<std::unique_ptr<Stepper>> StepperRecipe::Make(
    const StepSettings& settings, const Workload& workload,
    BenchRank& rank) const {
  return kind == StepperKind::kReplicated
             ? MakeReplicatedStepper(settings, workload, rank)
             : MakeShardedStepper(*this, settings, workload, rank);
}

}  // namespace zeromini::tools
