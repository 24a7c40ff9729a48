// Figures of a run for Prometheus, as text for node_exporter's textfile
// collector.

#ifndef ZEROMINI_TOOLS_REPORT_PROMETHEUS_H_
#define ZEROMINI_TOOLS_REPORT_PROMETHEUS_H_

#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "zeromini/group.h"
#include "zeromini/memory_report.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {

// Of one rank, after a step.
struct PrometheusFigures {
  StepReport report;  // Of the last step: gauges, but for the step itself.
  Traffic traffic;    // Optimizer::traffic(), since Create(): counters.
  MemoryReport memory;
};

// Name and value of labels that every figure gets, such as {"rank", "3"}.
using PrometheusLabels = std::vector<std::pair<std::string, std::string>>;

// Text exposition format 0.0.4: HELP and TYPE of each figure, then its lines
// "zeromini_NAME{LABELS} VALUE". Bytes and seconds are the units; a figure that
// nothing computed is NaN. Values of labels may be any UTF-8.
//
// InvalidArgument, naming the label, if its name is no [a-zA-Z_][a-zA-Z0-9_]*,
// begins with "__", is given twice, or is one of kind, level, phase, purpose.
absl::StatusOr<std::string> PrometheusText(const PrometheusFigures& figures,
                                           const PrometheusLabels& labels);

// Writes `text` beside `path` and renames it there, so that the collector never
// sees half a file. Give `path` the collector's suffix, .prom; the file beside
// it does not have it. PermissionDenied, naming the path, if it cannot be done.
absl::Status WritePrometheus(const std::string& path, absl::string_view text);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_PROMETHEUS_H_
