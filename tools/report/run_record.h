// RunRecord: a finished or broken-off run, read back from its folder.

#ifndef ZEROMINI_TOOLS_REPORT_RUN_RECORD_H_
#define ZEROMINI_TOOLS_REPORT_RUN_RECORD_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/files/apart.h"

namespace zeromini::tools {

using Point = std::pair<double, double>;

// What is not set is unknown: run.json is written last.
struct RunRecord {
  std::string name;
  // "adam-mini (whole)" for whole value blocks; "factored" in place of
  // adam-mini where its second moments were.
  std::string optimizer;
  bool finished = false;  // run.json is there.
  std::optional<int64_t> ranks;
  std::optional<int64_t> stage;
  std::optional<int64_t> shard_group;  // Ranks of a copy; 0: all.
  std::optional<int64_t> micro_steps;
  std::string dtype;     // Of the weights.
  std::string master;    // "-" beside fp32 weights.
  std::string momentum;  // And second moments of elements.
  std::optional<int64_t> parameters;
  std::optional<int64_t> steps;
  std::optional<int64_t> seed;
  std::optional<double> learning_rate;
  std::optional<int64_t> state_bytes;   // Of the rank that holds most.
  std::optional<double> training_loss;  // Mean of the last 50 steps; NaN too.
  std::optional<double> validation_loss;
  std::optional<double> tokens_per_second;
  std::string blas;

  std::vector<Point> training;    // (step, loss)
  std::vector<Point> validation;  // (step, loss)
  // Per step and rank: by purpose, and once more by level.
  std::map<std::string, double> bytes;
  std::map<std::string, double> seconds;  // Mean per step, by phase.
};

// `folder` is what pretrain --out was given. NotFound or InvalidArgument name
// the file and the line.
absl::StatusOr<RunRecord> ReadRun(const std::string& folder);

// InvalidArgument, with both, if two folders are one.
absl::Status CheckDifferent(const std::vector<std::string>& folders);

// What ReadRun() reads of each, under the folder's name.
std::vector<FlagFile> FilesOfRuns(const std::vector<std::string>& folders);

// Mean over a window around each point, at most `points` of them; the last half
// window has none.
std::vector<Point> Smoothed(const std::vector<Point>& curve, size_t points);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_RUN_RECORD_H_
