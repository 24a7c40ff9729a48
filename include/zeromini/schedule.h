// Schedule: the learning rate of each step, as a small value type.
//
//   zeromini::Schedule schedule = {ScheduleShape::kCosine, 3e-4, 3e-5};
//   schedule.warmup = 2000;  schedule.steps = 100000;
//   optimizer->Step({LearningRate(schedule, step)});

#ifndef ZEROMINI_SCHEDULE_H_
#define ZEROMINI_SCHEDULE_H_

#include <cstdint>

#include "absl/status/status.h"

namespace zeromini {

enum class ScheduleShape {
  kConstant,  // The peak.
  kLinear,    // Straight from the peak to the floor.
  kCosine,    // Half a cosine from the peak to the floor (arXiv 1608.03983,
              // equation 5, without restarts).
  // The peak, and in the last `decay` steps straight to the floor
  // (warm-up-stable-decay: arXiv 2404.06395, section 4).
  kWarmupStableDecay,
};

struct Schedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 0;
  double floor = 0;    // At step `steps` and after; kConstant has none.
  int64_t warmup = 0;  // Steps in which the rate rises straight to the peak.
  int64_t steps = 0;   // Of the whole run, warm-up included.
  int64_t decay = 0;   // kWarmupStableDecay only: the last steps.
};

// InvalidArgument, with the numbers, unless 0 <= floor <= peak, both finite,
// steps >= 1, and warm-up and decay fit into them.
absl::Status CheckSchedule(const Schedule& schedule);

// The rate of `step`, which counts from 1, of a schedule that has been checked:
// peak * step / warmup up to step `warmup`, then as the shape says.
double LearningRate(const Schedule& schedule, int64_t step);

}  // namespace zeromini

#endif  // ZEROMINI_SCHEDULE_H_
