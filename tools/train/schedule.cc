#include "tools/train/schedule.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"

namespace zeromini::tools {

double LearningRate(const ScheduleOptions& options, int64_t step) {
  if (step <= options.warmup) {
    return options.peak * static_cast<double>(step) /
           static_cast<double>(options.warmup);
  }
  const double length =
      static_cast<double>(std::max<int64_t>(1, options.steps - options.warmup));
  const double done =
      std::min(1.0, static_cast<double>(step - options.warmup) / length);
  return options.floor +
         (options.peak - options.floor) * 0.5 * (1 + std::cos(M_PI * done));
}

absl::StatusOr<BatchShare> ShareOfBatch(int64_t batch, int64_t micro_steps,
                                        int rank, int ranks) {
  const int64_t parts = micro_steps * ranks;
  if (micro_steps < 1 || batch < 1 || batch % parts != 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "a batch of ", batch, " sequences does not divide over ", ranks,
        ranks == 1 ? " rank" : " ranks", " times ", micro_steps,
        micro_steps == 1 ? " micro-step" : " micro-steps",
        ": --batch must be a multiple of ", parts));
  }
  BatchShare share;
  share.first = batch / ranks * rank;
  share.micro_batch = batch / parts;
  return share;
}

}  // namespace zeromini::tools
