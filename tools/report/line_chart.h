// LineChart: curves with axes as one inline SVG element.

#ifndef ZEROMINI_TOOLS_REPORT_LINE_CHART_H_
#define ZEROMINI_TOOLS_REPORT_LINE_CHART_H_

#include <string>
#include <vector>

#include "tools/report/run_record.h"

namespace zeromini::tools {

struct Curve {
  std::string name;
  int colour = 0;        // Class "c0", "c1", ...: the page says which colour.
  bool markers = false;  // Dots on a dashed line: few, measured points.
  std::vector<Point> points;
};

struct ChartText {
  std::string title;  // Read out by screen readers.
  std::string x_label;
  std::string y_label;
  std::string id = "plot";  // Of its clip path: another one for each chart.
  int width = 900;          // In the units of its texts, 12 high.
  int height = 380;
};

// The vertical range leaves out the first 3 % of the horizontal one, where a
// loss falls from its start, so that the rest can be told apart.
std::string LineChart(const ChartText& text, const std::vector<Curve>& curves);

// Round values that cover [low, high], about `count` of them.
std::vector<double> Ticks(double low, double high, int count);

// For text and for attribute values.
std::string EscapeHtml(const std::string& text);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_REPORT_LINE_CHART_H_
