// The parameters of a model of a Hugging Face config.json, for planning.

#ifndef ZEROMINI_TOOLS_CONFIG_PRESET_H_
#define ZEROMINI_TOOLS_CONFIG_PRESET_H_

#include <string>

#include "absl/status/statusor.h"
#include "tools/train/model_config.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

// As FindPreset's, with the config's own head dimension. The name is the
// path. Appends the config's warnings. Errors as ReadHfConfig's.
absl::StatusOr<ModelPreset> PresetFromConfig(
    const std::string& path, std::vector<std::string>* warnings);

// `config` must be complete.
ModelPreset PresetOf(const ModelConfig& config);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_CONFIG_PRESET_H_
