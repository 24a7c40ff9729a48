#include "tools/report/run_record.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <initializer_list>
#include <limits>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "nlohmann/json.hpp"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/files/text_file.h"
#include "tools/report/run_paths.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

double NumberAt(const Json& json, const char* key, double missing = 0) {
  const auto found = json.find(key);
  return found != json.end() && found->is_number() ? found->get<double>()
                                                   : missing;
}

std::optional<double> KnownNumberAt(const Json& json, const char* key) {
  const auto found = json.find(key);
  if (found == json.end()) return std::nullopt;
  // The writer's null is a number that was not finite.
  return found->is_number() ? found->get<double>() : NAN;
}

std::optional<int64_t> CountAt(const Json& json, const char* key) {
  constexpr double kLargest = int64_t{1} << 53;
  const double number = NumberAt(json, key, -1);
  if (number < 0 || number > kLargest) return std::nullopt;
  return static_cast<int64_t>(number);
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
  run.shard_group = CountAt(options, "shard_group").value_or(0);
  run.micro_steps = CountAt(options, "micro_steps").value_or(1);
}

std::string OptimizerOf(const Json& options) {
  const std::string optimizer = TextAt(options, "optimizer");
  if (optimizer != "adam-mini") return optimizer;
  const std::string second_moment = TextAt(options, "second_moment");
  // Runs from before there was a choice have none.
  if (!second_moment.empty() && second_moment != "official") {
    return second_moment;
  }
  return TextAt(options, "value_blocks") == "whole" ? optimizer + " (whole)"
                                                    : optimizer;
}

void ReadSummary(const Json& json, RunRecord& run) {
  const Json options = ObjectAt(json, "options");
  if (!TextAt(json, "name").empty()) run.name = TextAt(json, "name");
  run.finished = true;
  run.optimizer = OptimizerOf(options);
  run.ranks = CountAt(json, "ranks");
  run.stage = CountAt(options, "stage");
  ReadFormats(options, run);
  run.parameters = CountAt(json, "parameters");
  run.steps = CountAt(options, "steps");
  run.seed = CountAt(options, "seed");
  run.learning_rate = KnownNumberAt(options, "learning_rate");
  run.state_bytes = CountAt(json, "state_bytes_per_rank");
  run.training_loss = KnownNumberAt(json, "training_loss");
  run.validation_loss = KnownNumberAt(json, "validation_loss");
  run.tokens_per_second = KnownNumberAt(json, "tokens_per_second");
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

absl::Status CheckTypes(const Json& json, const std::string& path,
                        std::initializer_list<const char*> numbers,
                        std::initializer_list<const char*> texts,
                        std::initializer_list<const char*> objects) {
  const auto wrong = [&](const char* key, const char* wanted) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", key, " is not ", wanted, " but ", JsonText(json.at(key))));
  };
  for (const char* key : numbers) {
    // The writer's null is a number that was not finite.
    if (json.contains(key) && !json[key].is_number() && !json[key].is_null()) {
      return wrong(key, "a number");
    }
  }
  for (const char* key : texts) {
    if (json.contains(key) && !json[key].is_string()) {
      return wrong(key, "a text");
    }
  }
  for (const char* key : objects) {
    if (json.contains(key) && !json[key].is_object()) {
      return wrong(key, "an object");
    }
  }
  return absl::OkStatus();
}

// Of what is read, what has another type than the writer's is damaged.
absl::Status CheckSummary(const Json& json, const std::string& path) {
  ZEROMINI_RETURN_IF_ERROR(
      CheckTypes(json, path,
                 {"ranks", "parameters", "state_bytes_per_rank",
                  "training_loss", "validation_loss", "tokens_per_second"},
                 {"name"}, {"options", "blas"}));
  return CheckTypes(
      ObjectAt(json, "options"), absl::StrCat(path, ": options"),
      {"stage", "shard_group", "micro_steps", "steps", "seed", "learning_rate"},
      {"optimizer", "value_blocks", "second_moment", "dtype", "master",
       "momentum"},
      {});
}

// `finished`: the run has a summary, so no line can be cut.
absl::Status ReadMetrics(const std::string& path, bool finished,
                         RunRecord& run) {
  ZEROMINI_ASSIGN_OR_RETURN(const std::string text, ReadTextFile(path));
  absl::string_view rest = text;
  for (int number = 1; !rest.empty(); ++number) {
    const absl::string_view line = rest.substr(0, rest.find('\n'));
    const bool whole = line.size() < rest.size();
    rest.remove_prefix(line.size() + (whole ? 1 : 0));
    const auto parsed = ParseJsonObject(line, absl::StrCat(path, ":", number));
    // The last line of a killed run may be cut short.
    if (!parsed.ok() && !whole && number > 1 && !finished) break;
    ZEROMINI_RETURN_IF_ERROR(parsed.status());
    ZEROMINI_RETURN_IF_ERROR(CheckTypes(
        *parsed, absl::StrCat(path, ":", number),
        {"step", "loss", "validation_loss"}, {}, {"bytes", "seconds"}));
    const Json& json = *parsed;
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

absl::Status CheckDifferent(const std::vector<std::string>& folders) {
  std::map<std::filesystem::path, std::string> seen;
  for (const std::string& folder : folders) {
    std::error_code error;
    const auto path = std::filesystem::weakly_canonical(folder, error);
    const auto [first, is_first] = seen.emplace(path, folder);
    if (is_first || error) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "'", ForTerminal(folder), "' and '", ForTerminal(first->second),
        "' are one run; name it once"));
  }
  return absl::OkStatus();
}

std::vector<FlagFile> FilesOfRuns(const std::vector<std::string>& folders) {
  std::vector<FlagFile> files;
  for (const std::string& folder : folders) {
    files.push_back({folder, MetricsPath(folder)});
    files.push_back({folder, SummaryPath(folder)});
  }
  return files;
}

absl::StatusOr<RunRecord> ReadRun(const std::string& folder) {
  RunRecord run;
  std::filesystem::path path(folder);
  if (!path.has_filename()) path = path.parent_path();
  run.name = path.filename().string();
  const std::string metrics = MetricsPath(path.string());
  const std::string summary = SummaryPath(path.string());
  auto json = ReadJsonObject(summary);
  const bool finished = !absl::IsNotFound(json.status());
  ZEROMINI_RETURN_IF_ERROR(ReadMetrics(metrics, finished, run));
  if (!finished) return run;
  ZEROMINI_RETURN_IF_ERROR(json.status());
  ZEROMINI_RETURN_IF_ERROR(CheckSummary(*json, summary));
  ReadSummary(*json, run);
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
