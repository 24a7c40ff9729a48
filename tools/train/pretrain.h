// Pretrain: one rank's training run, from text to metrics.

#ifndef ZEROMINI_TOOLS_TRAIN_PRETRAIN_H_
#define ZEROMINI_TOOLS_TRAIN_PRETRAIN_H_

#include <functional>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tools/train/pretrain_options.h"
#include "tools/train/run_files.h"
#include "zeromini/communicator.h"

namespace zeromini::tools {

struct PretrainResult {
  std::vector<double> losses;  // Global mean, one a step.
  double validation_loss = 0;  // After the last step.
  MemoryReport memory;         // This rank's.
};

// Collective. `options` is complete and equal on all ranks. Rank 0 writes
// options.out and prints; the others are silent.
absl::StatusOr<PretrainResult> Pretrain(const PretrainOptions& options,
                                        Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_PRETRAIN_H_
