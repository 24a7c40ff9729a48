// How a global batch is dealt to ranks.

#ifndef ZEROMINI_TOOLS_TRAIN_BATCH_SHARE_H_
#define ZEROMINI_TOOLS_TRAIN_BATCH_SHARE_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace zeromini::tools {

struct BatchShare {
  int64_t first = 0;        // This rank's first sequence of the global batch.
  int64_t micro_batch = 0;  // Sequences per micro-step.
};

// InvalidArgument, with the numbers, if `batch` does not divide evenly.
absl::StatusOr<BatchShare> ShareOfBatch(int64_t batch, int64_t micro_steps,
                                        int rank, int ranks);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_BATCH_SHARE_H_
