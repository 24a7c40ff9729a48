// Checks of what a caller can get wrong in OptimizerOptions and ParamSpecs
// before anything is planned.

#ifndef ZEROMINI_RUNTIME_OPTION_CHECKS_H_
#define ZEROMINI_RUNTIME_OPTION_CHECKS_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "runtime/fnv_hash.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"

namespace zeromini {

// InvalidArgument or Unimplemented, with the field or parameter and its value.
absl::Status CheckOptions(const OptimizerOptions& options);
absl::Status CheckGroup(const ParamGroup& group);
absl::Status CheckSpecs(absl::Span<const ParamSpec> params,
                        const OptimizerOptions& options);

// Of all options that ranks must share, whether or not the plan depends on
// them.
uint64_t HashOptions(const OptimizerOptions& options);

// The group's share of that, which may change between steps.
void AddGroup(const ParamGroup& group, FnvHash* hash);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_OPTION_CHECKS_H_
