// One way to make a data-parallel optimizer step, as `bench step` times it.

#ifndef ZEROMINI_TOOLS_BENCH_STEPPER_H_
#define ZEROMINI_TOOLS_BENCH_STEPPER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "tools/bench_group.h"
#include "tools/bench_workload.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

// Of one rank, in one step.
struct StepSeconds {
  double total = 0;   // Compute included.
  double update = 0;  // In kernels.

  // Waiting for exchanges. Of the wait for weights the kernels' time is taken
  // off: if some ran under compute, this is too little by as much.
  double exposed = 0;
};

class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual std::string optimizer() const = 0;
  virtual std::string implementation() const = 0;

  // Puts gradients where backward would leave them. Not part of a step, and
  // not needed before each: sums in place leave what may be summed again.
  virtual void Prepare() = 0;

  // Collective. Forward, backward, exchange, update. The weights of the step
  // before may still be on their way: forward waits for what it needs.
  virtual absl::StatusOr<StepSeconds> Step() = 0;

  virtual absl::Status Finish() = 0;  // Blocks until the weights are in place.

  // Bytes that this rank has sent to other hosts; -1 if nothing counts them.
  virtual int64_t SentBetweenHosts() const = 0;

  virtual absl::Status Close() = 0;  // Collective.
};

struct StepSettings {
  int stage = 1;
  double clip = 0;
};

// Both are collective; the workload, the group and `rank` must outlive them.

// Our optimizer, in flat memory. It looks for gradients that are not finite
// only where clipping has it read them twice anyway, as the baseline does.
absl::StatusOr<std::unique_ptr<Stepper>> MakeShardedStepper(
    Algorithm algorithm, const StepSettings& settings, const Workload& workload,
    BenchRank& rank);

// What a trainer without us does: one all-reduce of the whole flat gradient
// (MPI's own, over MPI) after backward, and AdamW of everything on every rank.
absl::StatusOr<std::unique_ptr<Stepper>> MakeReplicatedStepper(
    const StepSettings& settings, const Workload& workload, BenchRank& rank);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_STEPPER_H_
