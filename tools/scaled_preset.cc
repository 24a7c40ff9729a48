#include "tools/scaled_preset.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

// -1 if it is in none.
int64_t LayerOf(const std::string& name) {
  for (const char* stem : {".layers.", ".h."}) {
    const size_t at = name.find(stem);
    int64_t layer = -1;
    if (at == name.npos) continue;
    const size_t from = at + std::string(stem).size();
    if (absl::SimpleAtoi(name.substr(from, name.find('.', from) - from),
                         &layer)) {
      return layer;
    }
  }
  return -1;
}

absl::StatusOr<ModelPreset> Scale(ModelPreset preset, int64_t divisor) {
  if (divisor == 1) return preset;
  const int64_t layers = LayersOf(preset);
  const int64_t kept = layers / divisor;
  std::vector<ParamSpec> params;
  for (ParamSpec& spec : preset.params) {
    if (LayerOf(spec.name) >= kept) continue;
    const bool vocabulary = spec.name == "model.embed_tokens.weight" ||
                            spec.name == "transformer.wte.weight" ||
                            spec.name == "lm_head.weight";
    if (vocabulary) spec.shape[0] /= divisor;
    params.push_back(std::move(spec));
  }
  if (kept < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--scale 1/", divisor, " leaves none of ", preset.name,
                     "'s ", layers, " layers"));
  }
  preset.params = std::move(params);
  absl::StrAppend(&preset.name, "/", divisor);
  return preset;
}

absl::StatusOr<int64_t> ParseScale(const std::string& text) {
  int64_t divisor = 0;
  if (text == "1") return 1;
  if (text.rfind("1/", 0) == 0 && absl::SimpleAtoi(text.substr(2), &divisor) &&
      divisor >= 1) {
    return divisor;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--scale must be 1/k with a whole k, got \"", text, "\""));
}

}  // namespace

int64_t LayersOf(const ModelPreset& preset) {
  int64_t layers = 0;
  for (const ParamSpec& spec : preset.params) {
    layers = std::max(layers, LayerOf(spec.name) + 1);
  }
  return layers;
}

absl::StatusOr<ModelPreset> Scaled(ModelPreset preset,
                                   const std::string& scale) {
  ZEROMINI_ASSIGN_OR_RETURN(const int64_t divisor, ParseScale(scale));
  return Scale(std::move(preset), divisor);
}

absl::StatusOr<ModelPreset> FindScaledPreset(const std::string& name,
                                             const std::string& scale) {
  ZEROMINI_ASSIGN_OR_RETURN(ModelPreset preset, FindPreset(name));
  return Scaled(std::move(preset), scale);
}

}  // namespace zeromini::tools
