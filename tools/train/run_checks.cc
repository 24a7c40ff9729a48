#include "tools/train/run_checks.h"

#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "tools/files/output_folder.h"
#include "tools/files/text_file.h"
#include "tools/report/run_paths.h"
#include "tools/train/prometheus_file.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {

absl::StatusOr<std::vector<FlagFile>> InputsOf(const PretrainOptions& options) {
  std::vector<FlagFile> inputs = {{"--data", options.data}};
  if (options.config.empty()) return inputs;
  ZEROMINI_ASSIGN_OR_RETURN(const std::string path, ConfigPath(options.config));
  inputs.push_back({"--config", path});
  return inputs;
}

absl::Status CheckRunFiles(const PretrainOptions& options, int rank) {
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<FlagFile> inputs,
                            InputsOf(options));
  std::vector<FlagFile> outputs = {
      {"--json", options.json},
      {"--prometheus", PrometheusPath(options.prometheus, rank)}};
  if (!options.out.empty()) {
    outputs.insert(outputs.begin(),
                   {{"--out", MetricsPath(options.out)},
                    {"--out", SummaryPath(options.out)},
                    {"--out", OutputFolder::LockPath(options.out)}});
  }
  return CheckApart(inputs, outputs);
}

absl::Status OfStep(int64_t step, const absl::Status& status) {
  const std::string prefix = absl::StrCat("step ", step, ": ");
  if (absl::StartsWith(status.message(), prefix)) return status;
  return absl::Status(status.code(), absl::StrCat(prefix, status.message()));
}

absl::Status NameBudget(const absl::Status& status) {
  if (!absl::IsResourceExhausted(status) ||
      !absl::StrContains(status.message(), "gather_budget_bytes")) {
    return status;
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--gather-budget is too small: ", status.message()));
}

}  // namespace zeromini::tools
