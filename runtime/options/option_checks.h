// Checks of what a caller can get wrong in OptimizerOptions and ParamSpecs
// before anything is planned.

#ifndef ZEROMINI_RUNTIME_OPTIONS_OPTION_CHECKS_H_
#define ZEROMINI_RUNTIME_OPTIONS_OPTION_CHECKS_H_

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/options/fnv_hash.h"
#include "zeromini/optimizer.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"

namespace zeromini {

// InvalidArgument or Unimplemented, with the field or parameter and its value.
absl::Status CheckOptions(const OptimizerOptions& options);
absl::Status CheckGroup(const HyperGroup& group);
absl::Status CheckSpecs(absl::Span<const ParamSpec> params,
                        const OptimizerOptions& options);

// What a step's update would multiply and divide by: InvalidArgument, with the
// group and the numbers, if a kernel's fp32 cannot hold it or it would turn the
// update around. `mean_scale`: what gradients are multiplied by before
// clipping.
absl::Status CheckStep(const StepOptions& step, const OptimizerOptions& options,
                       absl::Span<const HyperGroup> groups, double mean_scale);

// What may change between steps, and must do so on all ranks alike.
void AddGroup(const HyperGroup& group, FnvHash* hash);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTIONS_OPTION_CHECKS_H_
