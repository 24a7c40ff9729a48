// The learning rate of each step, and how a global batch is dealt to ranks.

#ifndef ZEROMINI_TOOLS_TRAIN_SCHEDULE_H_
#define ZEROMINI_TOOLS_TRAIN_SCHEDULE_H_

#include <cstdint>

#include "absl/status/statusor.h"

namespace zeromini::tools {

struct ScheduleOptions {
  double peak = 1.5e-3;   // Best of four at 600 steps: measurements/parity.md.
  double floor = 1.5e-4;  // At the last step.
  int64_t warmup = 0;     // Steps.
  int64_t steps = 0;
};

// `step` counts from 1. Rises linearly to `peak` at step `warmup`, then follows
// half a cosine down to `floor` at step `steps`.
double LearningRate(const ScheduleOptions& options, int64_t step);

struct BatchShare {
  int64_t first = 0;        // This rank's first sequence of the global batch.
  int64_t micro_batch = 0;  // Sequences per micro-step.
};

// InvalidArgument, with the numbers, if `batch` does not divide evenly.
absl::StatusOr<BatchShare> ShareOfBatch(int64_t batch, int64_t micro_steps,
                                        int rank, int ranks);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_SCHEDULE_H_
