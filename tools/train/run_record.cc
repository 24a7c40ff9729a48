#include "tools/train/run_record.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

double NumberAt(const Json& json, const char* key, double missing = 0) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? found->get<double>()
                                                   : missing;
}

int64_t CountAt(const Json& json, const char* key) {
  return static_cast<int64_t>(NumberAt(json, key));
}

std::string TextAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>()
                                                   : std::string();
}

Json ObjectAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_object() ? *found : Json::object();
}

// Runs from before there was a choice had fp32 everywhere.
void ReadFormats(const Json& options, RunRecord& run) {
  const auto text = [&options](const char* key) {
    const std::string found = TextAt(options, key);
    return found.empty() ? std::string("fp32") : found;
  };
  run.dtype = text("dtype");
  run.master = run.dtype == "fp32" ? "-" : text("master");
  run.momentum = text("momentum");
  run.shard_group = CountAt(options, "shard_group");
  run.micro_steps = static_cast<int64_t>(NumberAt(options, "micro_steps", 1));
}

void ReadSummary(const Json& json, RunRecord& run) {
  const Json options = ObjectAt(json, "options");
  if (!TextAt(json, "name").empty()) run.name = TextAt(json, "name");
  run.finished = true;
  run.optimizer = TextAt(options, "optimizer");
  if (run.optimizer == "adam-mini" &&
      TextAt(options, "value_blocks") == "whole") {
    run.optimizer += " (whole)";
  }
  run.ranks = CountAt(json, "ranks");
  run.stage = CountAt(options, "stage");
  ReadFormats(options, run);
  run.parameters = CountAt(json, "parameters");
  run.steps = CountAt(options, "steps");
  run.seed = static_cast<uint64_t>(NumberAt(options, "seed"));
  run.learning_rate = NumberAt(options, "learning_rate");
  run.state_bytes = CountAt(json, "state_bytes_per_rank");
  run.training_loss = NumberAt(json, "training_loss", NAN);
  run.validation_loss = NumberAt(json, "validation_loss", NAN);
  run.tokens_per_second = NumberAt(json, "tokens_per_second");
  run.blas = TextAt(ObjectAt(json, "blas"), "name");
}

void AddTo(const Json& json, const char* key,
           std::map<std::string, double>& sums) {
  const Json object = ObjectAt(json, key);
  for (const auto& item : object.items()) {
    if (item.value().is_number()) {
      sums[item.key()] += item.value().get<double>();
    }
  }
}

absl::Status ReadMetrics(const std::string& path, RunRecord& run) {
  std::ifstream file(path);
  if (!file) {
    return absl::NotFoundError(absl::StrCat(path, ": cannot be opened"));
  }
  std::string line;
  for (int number = 1; std::getline(file, line); ++number) {
    const Json json = Json::parse(line, nullptr, false);
    if (json.is_discarded() || !json.is_object()) {
      // The last line of a killed run may be cut short.
      if (file.peek() == std::ifstream::traits_type::eof() && number > 1) break;
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", number, ": is not a JSON object"));
    }
    const double step = NumberAt(json, "step");
    const double loss = NumberAt(json, "loss", NAN);
    const double validation = NumberAt(json, "validation_loss", NAN);
    if (std::isfinite(loss)) run.training.emplace_back(step, loss);
    if (std::isfinite(validation))
      run.validation.emplace_back(step, validation);
    AddTo(json, "bytes", run.bytes);
    AddTo(json, "seconds", run.seconds);
  }
  const double steps = static_cast<double>(run.training.size());
  if (steps == 0) return absl::OkStatus();
  for (auto& [purpose, sum] : run.bytes) sum /= steps;
  for (auto& [phase, sum] : run.seconds) sum /= steps;
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RunRecord> ReadRun(const std::string& folder) {
  RunRecord run;
  std::filesystem::path path(folder);
  if (!path.has_filename()) path = path.parent_path();
  run.name = path.filename().string();
  ZEROMINI_RETURN_IF_ERROR(ReadMetrics((path / "metrics.jsonl").string(), run));
  const std::string summary = (path / "run.json").string();
  std::ifstream file(summary);
  if (!file) return run;
  const Json json = Json::parse(file, nullptr, false);
  if (json.is_discarded() || !json.is_object()) {
    return absl::InvalidArgumentError(
        absl::StrCat(summary, ": is not a JSON object"));
  }
  ReadSummary(json, run);
  return run;
}

std::vector<Point> Smoothed(const std::vector<Point>& curve, size_t points) {
  std::vector<Point> result;
  if (curve.empty() || points == 0) return result;
  const size_t half = curve.size() / 50;
  const size_t stride = (curve.size() + points - 1) / points;
  // Ends half a window early: a window that shrinks to the last batch would end
  // the curve on that batch's own noise.
  for (size_t i = 0; i + half < curve.size(); i += stride) {
    const size_t reach = std::min(half, i);
    double sum = 0;
    for (size_t j = i - reach; j <= i + reach; ++j) sum += curve[j].second;
    result.emplace_back(curve[i].first,
                        sum / static_cast<double>(2 * reach + 1));
  }
  return result;
}

}  // namespace zeromini::tools
