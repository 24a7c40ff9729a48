// One way to make a data-parallel optimizer step, as `bench step` times it.

#ifndef ZEROMINI_TOOLS_BENCH_STEPPER_H_
#define ZEROMINI_TOOLS_BENCH_STEPPER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "tools/bench_group.h"
#include "tools/bench_workload.h"
#include "tools/optimizer_choice.h"
#include "zeromini/options.h"
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

// What a plan says of itself, for who has one.
struct LayoutFacts {
  int stage = 0;
  int64_t buckets = 0;
  double padding_fraction = 0;
  double in_place_fraction = 0;
  // To pack and unpack, by this rank in a step; at stage 3 in one gather of
  // each layer set.
  int64_t copied_bytes = 0;
  int64_t split_blocks = 0;
};

// Since it was made, by this rank; -1: nothing counts it.
struct StepperCounts {
  int64_t sent_between_hosts = -1;  // Bytes.
  int64_t collectives = -1;         // Begun, scalars' included.
};

class Stepper {
 public:
  virtual ~Stepper() = default;
  virtual std::optional<LayoutFacts> Layout() const = 0;

  // Puts gradients where backward would leave them. Not part of a step, and
  // not needed before each: sums in place leave what may be summed again.
  virtual void Prepare() = 0;

  // Collective. Forward, backward, exchange, update. The weights of the step
  // before may still be on their way: forward waits for what it needs.
  virtual absl::StatusOr<StepSeconds> Step() = 0;

  virtual absl::Status Finish() = 0;  // Blocks until the weights are in place.

  virtual StepperCounts Counts() const = 0;
  // Bytes that exchanges run in now, of who counts them.
  virtual std::optional<int64_t> BufferBytes() const = 0;

  virtual absl::Status Close() = 0;  // Collective.
};

struct StepSettings {
  int stage = 1;  // Of ours.
  double clip = 0;
  OptimizerOptions layout;  // Of ours, but by padding; the rest is not read.
};

enum class StepperKind {
  // Our optimizer, in flat memory. It looks for gradients that are not finite
  // only where clipping has it read them twice anyway, as the baseline does.
  kSharded,
  // The same, laid out by layer, for little padding, whatever it copies and
  // holds.
  kShardedByPadding,
  // What a trainer without us does: one all-reduce of the whole flat gradient
  // (MPI's own, over MPI) after backward, and AdamW of everything on every
  // rank.
  kReplicated,
};

struct StepperRecipe {
  StepperKind kind = StepperKind::kSharded;
  OptimizerChoice optimizer;  // kReplicated knows AdamW alone.

  // "zeromini", "zeromini, by padding", or "mpi-allreduce+adamw" and the like.
  std::string Implementation(const Communicator& group) const;

  // What the largest rank holds at most, its gradients in, before anything is
  // made; errors as the optimizer's.
  absl::StatusOr<int64_t> HeldBytes(const StepSettings& settings,
                                    const Workload& workload, int ranks) const;

  // Collective. The workload, the group and `rank` must outlive the stepper.
  absl::StatusOr<std::unique_ptr<Stepper>> Make(const StepSettings& settings,
                                                const Workload& workload,
                                                BenchRank& rank) const;
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_STEPPER_H_
