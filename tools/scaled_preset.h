// Model presets cut down to what a machine at hand can hold.

#ifndef ZEROMINI_TOOLS_SCALED_PRESET_H_
#define ZEROMINI_TOOLS_SCALED_PRESET_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

// `scale` is "1" or "1/k": divides layers and vocabulary, never widths.
// InvalidArgument for another, or if no layer is left.
absl::StatusOr<ModelPreset> Scaled(ModelPreset preset,
                                   const std::string& scale);
absl::StatusOr<ModelPreset> FindScaledPreset(const std::string& name,
                                             const std::string& scale);

// By the names of its parameters.
int64_t LayersOf(const ModelPreset& preset);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_SCALED_PRESET_H_
