// The two files of a run's folder: what pretrain writes and reports read.

#ifndef ZEROMINI_TOOLS_REPORT_RUN_PATHS_H_
#define ZEROMINI_TOOLS_REPORT_RUN_PATHS_H_

#include <string>

#include "absl/strings/str_cat.h"

namespace zeromini::tools {

// One JSON object a step and an evaluation.
inline constexpr char kMetricsName[] = "metrics.jsonl";
// What the run was and how it ended; written last.
inline constexpr char kSummaryName[] = "run.json";

inline std::string MetricsPath(const std::string& folder) {
  return absl::StrCat(folder, "/", kMetricsName);
}

inline std::string SummaryPath(const std::string& folder) {
  return absl::StrCat(folder, "/", kSummaryName);
}

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_RUN_PATHS_H_
