// Tables of runs, and of runs that differ only in their seed.

#ifndef ZEROMINI_TOOLS_REPORT_RUN_TABLES_H_
#define ZEROMINI_TOOLS_REPORT_RUN_TABLES_H_

#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/report/run_record.h"
#include "tools/report/table.h"

namespace zeromini::tools {

// One row a run.
Table ResultTable(const std::vector<RunRecord>& runs);
Table SetupTable(const std::vector<RunRecord>& runs);  // Formats and sharding.
Table BytesTable(const std::vector<RunRecord>& runs);

// Finished runs that differ only in their seed, together.
struct RunGroup {
  std::string optimizer;  // "adamw, bf16/remainder16/fp32" if not all fp32.
  double learning_rate = 0;
  int64_t steps = 0;
  int64_t runs = 0;
  // Mean, and half the distance from lowest to highest.
  double training_mean = 0, training_spread = 0;
  double validation_mean = 0, validation_spread = 0;
  double gap = 0;  // Of validation_mean over the best adamw of equal steps; NaN
                   // without one.
};
std::vector<RunGroup> GroupRuns(const std::vector<RunRecord>& runs);
Table GroupTable(const std::vector<RunGroup>& groups);

nlohmann::json ToJson(const std::vector<RunRecord>& runs);
nlohmann::json ToJson(const std::vector<RunGroup>& groups);

std::string HumanBytes(double bytes);  // "1.50 MiB".

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_RUN_TABLES_H_
