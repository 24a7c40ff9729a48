// PrometheusFile: a rank's figures where node_exporter looks for them.

#ifndef ZEROMINI_TOOLS_TRAIN_PROMETHEUS_FILE_H_
#define ZEROMINI_TOOLS_TRAIN_PROMETHEUS_FILE_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tools/report/prometheus.h"

namespace zeromini::tools {

// Where rank `rank` writes: `pattern` with each "{rank}" replaced. Without one
// there is one file, rank 0's; others get "", as all do from "".
std::string PrometheusPath(const std::string& pattern, int rank);

class PrometheusFile {
 public:
  // Writes the figures of no step, so that a bad path is found at once. `run`
  // and `rank` become labels. An empty path writes nothing, now and later.
  static absl::StatusOr<PrometheusFile> Create(const std::string& path,
                                               const std::string& run,
                                               int rank);

  bool wanted() const { return !path_.empty(); }

  // Replaces the file, unless it was written less than a second ago and this
  // is not the `last` time: collectors read every few seconds.
  absl::Status Update(const PrometheusFigures& figures, bool last);

 private:
  PrometheusFile(std::string path, PrometheusLabels labels)
      : path_(std::move(path)), labels_(std::move(labels)) {}

  std::string path_;
  PrometheusLabels labels_;
  absl::Time written_ = absl::InfinitePast();
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_PROMETHEUS_FILE_H_
