#include "zeromini/schedule.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace zeromini {

absl::Status CheckSchedule(const Schedule& schedule) {
  const bool constant = schedule.shape == ScheduleShape::kConstant;
  const double floor = constant ? 0 : schedule.floor;
  if (!(floor >= 0) || !(floor <= schedule.peak) ||
      !std::isfinite(schedule.peak)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "schedule: peak ", schedule.peak, " and floor ", schedule.floor,
        " must be finite, with 0 <= floor <= peak"));
  }
  const bool decays = schedule.shape == ScheduleShape::kWarmupStableDecay;
  const int64_t decay = decays ? schedule.decay : 0;
  // One by one, so that no sum overflows.
  if (schedule.steps < 1 || schedule.warmup < 0 || decay < 0 ||
      schedule.warmup > schedule.steps ||
      decay > schedule.steps - schedule.warmup) {
    return absl::InvalidArgumentError(absl::StrCat(
        "schedule: ", schedule.warmup, " steps of warm-up and ", decay,
        " of decay must fit into ", schedule.steps, " steps, at least 1"));
  }
  return absl::OkStatus();
}

double LearningRate(const Schedule& schedule, int64_t step) {
  if (step < schedule.warmup) {
    return schedule.peak * static_cast<double>(step) /
           static_cast<double>(schedule.warmup);
  }
  if (schedule.shape == ScheduleShape::kConstant) return schedule.peak;
  const bool stable = schedule.shape == ScheduleShape::kWarmupStableDecay;
  const int64_t begin =
      stable ? schedule.steps - schedule.decay : schedule.warmup;
  const double length =
      static_cast<double>(std::max<int64_t>(1, schedule.steps - begin));
  const double done =
      std::clamp(static_cast<double>(step - begin) / length, 0.0, 1.0);
  const double left = schedule.shape == ScheduleShape::kCosine
                          ? 0.5 * (1 + std::cos(M_PI * done))
                          : 1 - done;
  return schedule.floor + (schedule.peak - schedule.floor) * left;
}

}  // namespace zeromini
