// LossScale: what a trainer multiplies its loss by, so that small gradients
// survive in fp16, adjusted by what became of the steps.
//
//   LossScale scale;
//   // loss * scale.value(), backward, GradReady as ever; then
//   options.loss_scale = scale.value();  // StepOptions
//   auto report = optimizer->Step(options);
//   status = scale.Update(*report);

#ifndef ZEROMINI_LOSS_SCALE_H_
#define ZEROMINI_LOSS_SCALE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zeromini/optimizer.h"

namespace zeromini {

// Defaults as in PyTorch (torch/amp/grad_scaler.py, GradScaler). With powers of
// two, scaling changes no bit of a gradient that stays in range.
struct LossScaleOptions {
  double initial = 65536;
  double growth = 2;
  double backoff = 0.5;
  int64_t growth_interval = 2000;  // Finite steps in a row.
  double least = 1;                // Never backs off below.
  double most = 16777216;          // Never grows above: 2^24.
};

// A value: every rank keeps its own, and all stay equal, since steps are
// skipped on all ranks or on none. Needs NonFiniteGradients::kSkip.
class LossScale {
 public:
  // With the defaults.
  LossScale() = default;

  // InvalidArgument, with the numbers, unless 0 < least <= initial <= most, all
  // finite, growth >= 1, 0 < backoff <= 1 and growth_interval >= 1.
  static absl::StatusOr<LossScale> Create(const LossScaleOptions& options);

  double value() const { return value_; }
  int64_t steps_since_change() const { return steady_; }

  // After each step that gave a report. A step that was skipped for its norm
  // says nothing against the scale; older ones that turn out late to have been
  // not finite (StepReport::not_finite_late) do, all of them once.
  // FailedPrecondition, and the scale stays, if the report is pending: it
  // cannot tell yet whether the gradient was finite.
  absl::Status Update(const StepReport& report);

 private:
  LossScaleOptions options_;
  double value_ = LossScaleOptions().initial;
  int64_t steady_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_LOSS_SCALE_H_
