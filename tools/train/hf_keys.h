// The keys of a Hugging Face config.json: read, refused, or warned of.

#ifndef ZEROMINI_TOOLS_TRAIN_HF_KEYS_H_
#define ZEROMINI_TOOLS_TRAIN_HF_KEYS_H_

#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tools/train/model_config.h"

namespace zeromini::tools {

// `path` is for messages. InvalidArgument names the file and the key: of a
// wrong type, missing, or with a value that makes another model than ours.
// ModelConfig::warnings has one line for all keys that nobody knows and one for
// dropout, which is not applied. Sizes are not held against each other.
absl::StatusOr<ModelConfig> ConfigFromHfKeys(const nlohmann::json& json,
                                             const std::string& path);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_HF_KEYS_H_
