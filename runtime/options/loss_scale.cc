#include "zeromini/loss_scale.h"

#include <algorithm>
#include <cmath>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace zeromini {

absl::StatusOr<LossScale> LossScale::Create(const LossScaleOptions& options) {
  if (!(options.least > 0) || !(options.least <= options.initial) ||
      !(options.initial <= options.most) || !std::isfinite(options.most)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "loss scale: least ", options.least, ", initial ", options.initial,
        " and most ", options.most, " must be positive, finite and ascending"));
  }
  if (!(options.growth >= 1) || !std::isfinite(options.growth) ||
      !(options.backoff > 0) || !(options.backoff <= 1) ||
      options.growth_interval < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "loss scale: growth ", options.growth, " must be at least 1, backoff ",
        options.backoff, " in (0, 1], growth_interval ",
        options.growth_interval, " at least 1"));
  }
  LossScale scale;
  scale.options_ = options;
  scale.value_ = options.initial;
  return scale;
}

absl::Status LossScale::Update(const StepReport& report) {
  if (report.pending) {
    return absl::FailedPreconditionError(
        "loss scale: the report is pending, so it does not say whether the "
        "gradient was finite; call WaitAll() and give LastReport(), or set "
        "StepOptions::wait");
  }
  if (report.not_finite || report.not_finite_late > 0) {
    value_ = std::max(options_.least, value_ * options_.backoff);
    steady_ = 0;
    return absl::OkStatus();
  }
  if (++steady_ < options_.growth_interval) return absl::OkStatus();
  value_ = std::min(options_.most, value_ * options_.growth);
  steady_ = 0;
  return absl::OkStatus();
}

}  // namespace zeromini
