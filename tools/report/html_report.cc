#include "tools/report/html_report.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/report/line_chart.h"
#include "tools/report/page.h"
#include "tools/report/run_tables.h"

namespace zeromini::tools {
namespace {

std::string LossSection(const std::vector<RunRecord>& runs) {
  std::vector<Curve> curves;
  std::string legend = "<div class=\"legend\">";
  for (size_t i = 0; i < runs.size(); ++i) {
    const int colour = static_cast<int>(i) % kColours;
    const RunRecord& run = runs[i];
    curves.push_back(
        {run.name + ", training", colour, false, Smoothed(run.training, 600)});
    Curve validation = {run.name + ", validation", colour, true, {}};
    for (const Point& point : run.validation) {
      // A line from the untrained model's loss would hide all the others.
      if (point.first > 0) validation.points.push_back(point);
    }
    curves.push_back(std::move(validation));
    legend += Key(colour, run.name);
  }
  return absl::StrCat(
      "<section><h2>Loss</h2>\n",
      LineChart({"Loss of each run over its steps", "step",
                 "cross entropy, nats per byte"},
                curves),
      legend,
      "</div><p>Solid: training, smoothed. Dashed with dots: validation, on "
      "the same held-out text.</p></section>\n");
}

struct Phase {
  const char* key;
  const char* name;
};
constexpr std::array<Phase, 6> kPhases = {{
    {"forward", "forward"},
    {"backward", "backward (with gradient exchange beneath)"},
    {"exposed_gradients", "waiting for gradients"},
    {"scalars", "scalar exchange"},
    {"update", "update"},
    {"exposed_weights", "waiting for weights"},
}};

double SecondsOf(const RunRecord& run, const char* phase) {
  const auto found = run.seconds.find(phase);
  return found == run.seconds.end() ? 0 : std::max(0.0, found->second);
}

std::string TimeSection(const std::vector<RunRecord>& runs) {
  double longest = 0;
  for (const RunRecord& run : runs) {
    double sum = 0;
    for (const Phase& phase : kPhases) sum += SecondsOf(run, phase.key);
    longest = std::max(longest, sum);
  }
  std::string html = "<section><h2>Where a step's time goes</h2>\n";
  for (const RunRecord& run : runs) {
    double sum = 0;
    std::string bar;
    for (size_t p = 0; p < kPhases.size(); ++p) {
      const double seconds = SecondsOf(run, kPhases[p].key);
      sum += seconds;
      if (longest <= 0) continue;
      absl::StrAppendFormat(
          &bar,
          "<span class=\"c%d\" style=\"width:%.2f%%\" title=\"%s: %.2f "
          "ms\"></span>",
          p, 100 * seconds / longest, kPhases[p].name, 1e3 * seconds);
    }
    const std::string a_step =
        run.seconds.empty() ? "unknown"
                            : absl::StrFormat("%.1f ms a step", 1e3 * sum);
    absl::StrAppendFormat(&html,
                          "<div>%s: %s</div><div class=\"bar\">%s</div>\n",
                          EscapeHtml(run.name), a_step, bar);
  }
  html += "<div class=\"legend\">";
  for (size_t p = 0; p < kPhases.size(); ++p) {
    html += Key(static_cast<int>(p), kPhases[p].name);
  }
  return html + "</div></section>\n";
}

}  // namespace

std::string HtmlReport(const std::vector<RunRecord>& runs) {
  std::string blas;
  for (const RunRecord& run : runs) {
    if (!run.blas.empty()) blas = run.blas;
  }
  return absl::StrCat(
      PageHead("zeromini: training runs"), "<p>", runs.size(),
      runs.size() == 1 ? " run" : " runs",
      blas.empty() ? "" : ", LibTorch on " + EscapeHtml(blas), "</p>\n",
      LossSection(runs),
      TableSection("Results", ResultTable(runs),
                   "Final training loss: mean of the last 50 steps. State: "
                   "momentum and second moment of the rank that holds most."),
      TableSection("Formats and sharding", SetupTable(runs),
                   "Master: what restores fp32 from 16-bit weights. Momentum: "
                   "what it, and AdamW's second moments, are stored as. Shard "
                   "group: ranks that share a copy."),
      TableSection("Sent by one rank in a step", BytesTable(runs),
                   "Counted by the communicator. No optimizer state moves in "
                   "a step, whatever the optimizer."),
      TimeSection(runs), "</body>\n</html>\n");
}

}  // namespace zeromini::tools
