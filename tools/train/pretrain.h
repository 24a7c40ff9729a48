// Pretrain: one rank's training run, from text to metrics.

#ifndef ZEROMINI_TOOLS_TRAIN_PRETRAIN_H_
#define ZEROMINI_TOOLS_TRAIN_PRETRAIN_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/train/pretrain_options.h"
#include "tools/train/run_files.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

class TrainOptimizer;

struct PretrainResult {
  std::vector<double> losses;  // Global mean, one a step.
  double validation_loss = 0;  // After the last step.
  MemoryReport memory;         // This rank's.
};

// Looks on while a run trains.
class RunWatcher {
 public:
  virtual ~RunWatcher() = default;

  // Collective. Before the first step, once ranks agree on the options; an
  // error, which all ranks must return, and nothing is trained.
  virtual absl::Status Begin(Communicator& group) = 0;

  // Collective. After each step; an error ends the run.
  virtual absl::Status AfterStep(int64_t step, TrainOptimizer& optimizer) = 0;
};

// Collective. `options` is complete and equal on all ranks. Rank 0 writes
// options.out, unless that is empty, and prints; the others are silent.
// `watcher` may be null.
absl::StatusOr<PretrainResult> Pretrain(const PretrainOptions& options,
                                        Communicator& group,
                                        RunWatcher* watcher = nullptr);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_PRETRAIN_H_
