#include "tools/replay_input.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"
#include "tools/files/json_file.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using nlohmann::json;

// Looks facts up in meta.json; every complaint names the file and the key.
class Meta {
 public:
  static absl::StatusOr<Meta> Read(const std::string& path) {
    Meta meta;
    meta.path_ = path;
    ZEROMINI_ASSIGN_OR_RETURN(meta.root_, ReadJsonObject(path));
    return meta;
  }

  absl::Status Bad(const std::string& what) const {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": ", what));
  }

  const json& root() const { return root_; }

  absl::StatusOr<json> Get(const json& object, const char* key) const {
    const auto found = object.find(key);
    if (found == object.end()) {
      return Bad(absl::StrCat("has no \"", key, "\""));
    }
    return *found;
  }

  absl::StatusOr<double> Number(const json& object, const char* key) const {
    ZEROMINI_ASSIGN_OR_RETURN(const json value, Get(object, key));
    if (!value.is_number()) {
      return Bad(absl::StrCat("\"", key, "\" is no number"));
    }
    return value.get<double>();
  }

  // Null and absent are 0: unknown.
  absl::StatusOr<int64_t> CountOrZero(const json& object,
                                      const char* key) const {
    const auto found = object.find(key);
    if (found == object.end() || found->is_null()) return 0;
    if (!IsCount(*found)) {
      return Bad(absl::StrCat("\"", key, "\" is no count"));
    }
    return found->get<int64_t>();
  }

  static bool IsCount(const json& value) {
    return value.is_number_unsigned() && value.get<uint64_t>() < 1ull << 48;
  }

 private:
  std::string path_;
  json root_;
};

absl::Status ReadAlgorithm(const Meta& meta, ReplayInput* input) {
  ZEROMINI_ASSIGN_OR_RETURN(const json name,
                            meta.Get(meta.root(), "optimizer"));
  if (name == "adam_mini") {
    input->algorithm = Algorithm::kAdamMini;
  } else if (name == "factored") {
    input->algorithm = Algorithm::kAdamMini;
    input->second_moment = SecondMoment::kFactored;
  } else if (name == "adamw") {
    input->algorithm = Algorithm::kAdamW;
  } else {
    return meta.Bad(absl::StrCat("optimizer ", name.dump(),
                                 " is none of \"adam_mini\", \"factored\" and "
                                 "\"adamw\""));
  }
  return absl::OkStatus();
}

absl::Status ReadHyperparameters(const Meta& meta, ReplayInput* input) {
  ZEROMINI_ASSIGN_OR_RETURN(const json hyper,
                            meta.Get(meta.root(), "hyperparameters"));
  if (!hyper.is_object()) return meta.Bad("\"hyperparameters\" is no object");
  ZEROMINI_ASSIGN_OR_RETURN(input->hyper.beta1, meta.Number(hyper, "beta1"));
  ZEROMINI_ASSIGN_OR_RETURN(input->hyper.beta2, meta.Number(hyper, "beta2"));
  ZEROMINI_ASSIGN_OR_RETURN(input->hyper.epsilon, meta.Number(hyper, "eps"));
  ZEROMINI_ASSIGN_OR_RETURN(input->hyper.weight_decay,
                            meta.Number(hyper, "weight_decay"));
  ZEROMINI_ASSIGN_OR_RETURN(input->model.hidden,
                            meta.CountOrZero(hyper, "dim"));
  ZEROMINI_ASSIGN_OR_RETURN(input->model.heads,
                            meta.CountOrZero(hyper, "n_heads"));
  ZEROMINI_ASSIGN_OR_RETURN(input->model.kv_heads,
                            meta.CountOrZero(hyper, "n_kv_heads"));
  const auto values = hyper.find("wv_names");
  if (values != hyper.end() && !values->is_null()) {
    if (!values->is_array()) return meta.Bad("\"wv_names\" is no list");
    if (values->empty()) input->value_blocks = ValueBlocks::kWhole;
  }
  return absl::OkStatus();
}

absl::Status ReadLearningRates(const Meta& meta, ReplayInput* input) {
  ZEROMINI_ASSIGN_OR_RETURN(const json rates,
                            meta.Get(meta.root(), "lr_per_step"));
  if (!rates.is_array() || rates.empty()) {
    return meta.Bad("\"lr_per_step\" is no list of learning rates");
  }
  for (const json& rate : rates) {
    // The update computes in floats.
    constexpr double kLargest = std::numeric_limits<float>::max();
    const double value = rate.is_number() ? rate.get<double>() : -1;
    if (!(value >= 0 && value <= kLargest)) {
      return meta.Bad(absl::StrCat("\"lr_per_step\" holds ", rate.dump(),
                                   ": a rate is a float that is not negative"));
    }
    input->learning_rates.push_back(rate.get<double>());
  }
  return absl::OkStatus();
}

// What no name tells of factored second moments. Where a parameter has three
// dimensions, the first of them stacks matrices.
absl::Status ReadMatrices(const Meta& meta, const json& entry,
                          ParamSpec* param) {
  ZEROMINI_ASSIGN_OR_RETURN(param->padding_rows,
                            meta.CountOrZero(entry, "padding_rows"));
  const auto rows = entry.find("matrix_rows");
  if (rows == entry.end() || rows->empty()) return absl::OkStatus();
  if (!rows->is_array() ||
      !std::all_of(rows->begin(), rows->end(), Meta::IsCount)) {
    return meta.Bad(absl::StrCat("\"matrix_rows\" of parameter \"", param->name,
                                 "\" is no list of counts"));
  }
  param->rule = BlockRule::Factored();
  if (param->shape.size() > 2) {
    param->slices = param->shape[0];
    return absl::OkStatus();
  }
  if (rows->size() == 1) return absl::OkStatus();
  param->rule = BlockRule::Fused({});
  for (const json& count : *rows) {
    param->rule.segments.push_back(
        {count.get<int64_t>(), 1, BlockKind::kRow, MomentForm::kFactored});
  }
  return absl::OkStatus();
}

absl::Status ReadParameter(const Meta& meta, const json& entry,
                           ReplayInput* input) {
  if (!entry.is_object() || !entry.contains("name") ||
      !entry["name"].is_string()) {
    return meta.Bad(
        absl::StrCat("parameter ", input->params.size(), " has no name"));
  }
  ParamSpec param;
  param.name = entry["name"].get<std::string>();
  const auto shape = entry.find("shape");
  bool good = shape != entry.end() && shape->is_array();
  for (size_t i = 0; good && i < shape->size(); ++i) {
    good = Meta::IsCount((*shape)[i]) && (*shape)[i] > 0;
  }
  if (!good) {
    return meta.Bad(absl::StrCat("parameter \"", param.name,
                                 "\" has no shape of positive sizes"));
  }
  input->file_shapes.push_back(shape->get<std::vector<int64_t>>());
  param.shape = input->file_shapes.back();
  if (param.shape.empty()) param.shape = {1};
  const auto trained = entry.find("requires_grad");
  if (trained != entry.end()) {
    if (!trained->is_boolean()) {
      return meta.Bad(absl::StrCat("\"requires_grad\" of parameter \"",
                                   param.name, "\" is neither true nor false"));
    }
    param.frozen = !trained->get<bool>();
  }
  ZEROMINI_RETURN_IF_ERROR(ReadMatrices(meta, entry, &param));
  input->params.push_back(std::move(param));
  return absl::OkStatus();
}

absl::Status ReadParameters(const Meta& meta, ReplayInput* input) {
  ZEROMINI_ASSIGN_OR_RETURN(const json params,
                            meta.Get(meta.root(), "parameters"));
  if (!params.is_array() || params.empty()) {
    return meta.Bad("\"parameters\" is no list");
  }
  for (const json& entry : params) {
    ZEROMINI_RETURN_IF_ERROR(ReadParameter(meta, entry, input));
  }
  return absl::OkStatus();
}

absl::Status BadTensor(const SafetensorsReader& file, const std::string& tensor,
                       const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat(file.path(), ": tensor \"", tensor, "\": ", what));
}

absl::Status ReadInitialWeights(ReplayInput* input) {
  ZEROMINI_ASSIGN_OR_RETURN(
      const auto file,
      SafetensorsReader::Open(StepFile(input->directory, "params", 0)));
  for (size_t i = 0; i < input->params.size(); ++i) {
    const std::string& name = input->params[i].name;
    ZEROMINI_ASSIGN_OR_RETURN(auto weights,
                              file->ReadF32(name, input->file_shapes[i]));
    const auto bad =
        std::find_if(weights.begin(), weights.end(),
                     [](float weight) { return !std::isfinite(weight); });
    if (bad != weights.end()) {
      return BadTensor(*file, name,
                       absl::StrCat("element ", bad - weights.begin(), " is ",
                                    *bad, ": weights must be finite"));
    }
    input->initial.push_back(std::move(weights));
  }
  return absl::OkStatus();
}

bool IsFloat(TensorFormat format) {
  return format == TensorFormat::kF32 || format == TensorFormat::kF64 ||
         format == TensorFormat::kBF16 || format == TensorFormat::kF16;
}

using ParamIndex = std::map<std::string, size_t>;

absl::Status CheckGradient(const ReplayInput& input, const ParamIndex& index,
                           const SafetensorsReader& file,
                           const TensorInfo& tensor) {
  const auto found = index.find(tensor.name);
  if (found == index.end()) {
    // A counter or a mask, but no gradient under a wrong name.
    if (!IsFloat(tensor.format)) return absl::OkStatus();
    return BadTensor(file, tensor.name, "meta.json lists no such parameter");
  }
  if (input.params[found->second].frozen) {
    return BadTensor(file, tensor.name, "is a gradient of a frozen parameter");
  }
  const std::vector<int64_t>& shape = input.file_shapes[found->second];
  if (tensor.format == TensorFormat::kF32 && tensor.shape == shape) {
    return absl::OkStatus();
  }
  return BadTensor(
      file, tensor.name,
      absl::StrCat("is ", TensorFormatName(tensor.format), " [",
                   absl::StrJoin(tensor.shape, ", "), "], not F32 [",
                   absl::StrJoin(shape, ", "), "]"));
}

absl::Status OpenGradients(ReplayInput* input) {
  ParamIndex index;
  for (size_t i = 0; i < input->params.size(); ++i) {
    index[input->params[i].name] = i;
  }
  for (int step = 1; step <= input->steps(); ++step) {
    ZEROMINI_ASSIGN_OR_RETURN(auto file, SafetensorsReader::Open(StepFile(
                                             input->directory, "grads", step)));
    for (const TensorInfo& tensor : file->tensors()) {
      ZEROMINI_RETURN_IF_ERROR(CheckGradient(*input, index, *file, tensor));
    }
    input->gradients.push_back(std::move(file));
  }
  return absl::OkStatus();
}

}  // namespace

std::string StepFile(const std::string& directory, const std::string& stem,
                     int step) {
  const std::string file = absl::StrFormat("%s_%02d.safetensors", stem, step);
  return (std::filesystem::path(directory) / file).string();
}

std::string MetaFile(const std::string& directory) {
  return (std::filesystem::path(directory) / "meta.json").string();
}

absl::StatusOr<ReplayInput> ReplayInput::Open(const std::string& directory) {
  ReplayInput input;
  input.directory = directory;
  ZEROMINI_ASSIGN_OR_RETURN(const Meta meta, Meta::Read(MetaFile(directory)));
  ZEROMINI_RETURN_IF_ERROR(ReadAlgorithm(meta, &input));
  ZEROMINI_RETURN_IF_ERROR(ReadHyperparameters(meta, &input));
  ZEROMINI_RETURN_IF_ERROR(ReadLearningRates(meta, &input));
  ZEROMINI_RETURN_IF_ERROR(ReadParameters(meta, &input));
  ZEROMINI_RETURN_IF_ERROR(ReadInitialWeights(&input));
  ZEROMINI_RETURN_IF_ERROR(OpenGradients(&input));
  return input;
}

absl::StatusOr<std::vector<float>> ReplayInput::Gradient(int param,
                                                         int step) const {
  const SafetensorsReader& file = *gradients[step - 1];
  if (file.Find(params[param].name) == nullptr) return std::vector<float>();
  return file.ReadF32(params[param].name, file_shapes[param]);
}

}  // namespace zeromini::tools
