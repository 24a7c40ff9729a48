// What a run leaves in its folder (tools/report/run_paths.h).

#ifndef ZEROMINI_TOOLS_TRAIN_RUN_FILES_H_
#define ZEROMINI_TOOLS_TRAIN_RUN_FILES_H_

#include <cstdint>
#include <fstream>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "tools/files/output_folder.h"
#include "tools/report/run_paths.h"  // The names of both files.
#include "tools/train/blas.h"
#include "tools/train/pretrain_options.h"
#include "zeromini/memory_report.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {

struct StepMetrics {
  int64_t step = 0;
  double loss = 0;
  double learning_rate = 0;
  double loss_scale = 1;
  double tokens_per_second = 0;
  double forward_seconds = 0;
  double backward_seconds = 0;
  double step_seconds = 0;  // Around Optimizer::Step.
  StepReport report;
};

nlohmann::json ToJson(const StepMetrics& metrics);
nlohmann::json ToJson(const Traffic& traffic);
nlohmann::json ToJson(const MemoryReport& memory);
nlohmann::json ToJson(const PretrainOptions& options);
nlohmann::json ToJson(const BlasInfo& blas);

// Writes one folder. Rank 0 only; each call is flushed, so that a killed run
// leaves whole lines.
class RunFiles {
 public:
  // Makes the folder, which is this run's until the result is gone. The errors
  // of OutputFolder::Claim(): AlreadyExists if it holds a run and is not to be
  // overwritten, FailedPrecondition if another run is writing to it.
  static absl::StatusOr<RunFiles> Create(const std::string& folder,
                                         bool overwrite);

  absl::Status AddLine(const nlohmann::json& line);
  absl::Status WriteRun(const nlohmann::json& run);

 private:
  RunFiles(OutputFolder folder, std::ofstream metrics)
      : folder_(std::move(folder)), metrics_(std::move(metrics)) {}

  OutputFolder folder_;
  std::ofstream metrics_;
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_RUN_FILES_H_
