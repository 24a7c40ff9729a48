#include "tools/report/line_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace zeromini::tools {
namespace {

constexpr double kWidth = 900, kHeight = 380;
constexpr double kLeft = 58, kRight = 14, kTop = 12, kBottom = 46;

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void Take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  void MakeUsable() {
    if (!(low <= high)) low = 0, high = 1;
    if (low == high) low -= 0.5, high += 0.5;
  }
};

struct Axes {
  Range x, y;
  double X(double v) const {
    return kLeft + (v - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight);
  }
  double Y(double v) const {
    return kHeight - kBottom -
           (v - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

Axes AxesFor(const std::vector<Curve>& curves) {
  Axes axes;
  for (const Curve& curve : curves) {
    for (const Point& point : curve.points) axes.x.Take(point.first);
  }
  axes.x.MakeUsable();
  const double from = axes.x.low + 0.03 * (axes.x.high - axes.x.low);
  for (const Curve& curve : curves) {
    for (const Point& point : curve.points) {
      if (point.first >= from) axes.y.Take(point.second);
    }
  }
  axes.y.MakeUsable();
  const double margin = 0.04 * (axes.y.high - axes.y.low);
  axes.y.low -= margin;
  axes.y.high += margin;
  return axes;
}

std::string Grid(const Axes& axes, const ChartText& text) {
  std::string svg;
  for (double v : Ticks(axes.y.low, axes.y.high, 6)) {
    absl::StrAppendFormat(
        &svg,
        "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
        "y2=\"%.1f\"/><text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
        "text-anchor=\"end\">%g</text>\n",
        kLeft, kWidth - kRight, axes.Y(v), axes.Y(v), kLeft - 8, axes.Y(v) + 4,
        v);
  }
  for (double v : Ticks(axes.x.low, axes.x.high, 8)) {
    absl::StrAppendFormat(
        &svg,
        "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
        "y2=\"%.1f\"/><text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
        "text-anchor=\"middle\">%g</text>\n",
        axes.X(v), axes.X(v), kTop, kHeight - kBottom, axes.X(v),
        kHeight - kBottom + 18, v);
  }
  absl::StrAppendFormat(
      &svg,
      "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" "
      "text-anchor=\"middle\">%s</text>\n"
      "<text class=\"label\" text-anchor=\"middle\" "
      "transform=\"translate(14 %.1f) rotate(-90)\">%s</text>\n",
      (kLeft + kWidth - kRight) / 2, kHeight - 8, EscapeHtml(text.x_label),
      (kTop + kHeight - kBottom) / 2, EscapeHtml(text.y_label));
  return svg;
}

std::string Line(const Axes& axes, const Curve& curve) {
  std::string svg = absl::StrFormat(
      "<g class=\"c%d\"><title>%s</title><polyline class=\"%s\" points=\"",
      curve.colour, EscapeHtml(curve.name), curve.markers ? "dashed" : "solid");
  for (const Point& point : curve.points) {
    absl::StrAppendFormat(&svg, "%.1f,%.1f ", axes.X(point.first),
                          axes.Y(point.second));
  }
  svg += "\"/>";
  for (const Point& point : curve.points) {
    if (!curve.markers) break;
    absl::StrAppendFormat(
        &svg,
        "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.2\"><title>%s, %g: "
        "%.4f</title></circle>",
        axes.X(point.first), axes.Y(point.second), EscapeHtml(curve.name),
        point.first, point.second);
  }
  return svg + "</g>\n";
}

}  // namespace

std::string EscapeHtml(const std::string& text) {
  std::string escaped;
  for (char c : text) {
    switch (c) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += c;
    }
  }
  return escaped;
}

std::vector<double> Ticks(double low, double high, int count) {
  if (!(low < high) || count < 1) return {low};
  const double raw = (high - low) / count;
  const double power = std::pow(10.0, std::floor(std::log10(raw)));
  double step = 10 * power;
  for (double factor : {1.0, 2.0, 5.0}) {
    if (factor * power >= raw) {
      step = factor * power;
      break;
    }
  }
  std::vector<double> ticks;
  for (double k = std::ceil(low / step); k * step <= high; ++k) {
    ticks.push_back(k * step);
  }
  return ticks;
}

std::string LineChart(const ChartText& text, const std::vector<Curve>& curves) {
  const Axes axes = AxesFor(curves);
  std::string svg = absl::StrFormat(
      "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
      "aria-label=\"%s\">\n"
      "<clipPath id=\"plot\"><rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" "
      "height=\"%.0f\"/></clipPath>\n",
      kWidth, kHeight, EscapeHtml(text.title), kLeft, kTop,
      kWidth - kLeft - kRight, kHeight - kTop - kBottom);
  svg += Grid(axes, text) + "<g clip-path=\"url(#plot)\">\n";
  for (const Curve& curve : curves) svg += Line(axes, curve);
  return svg + "</g>\n</svg>\n";
}

}  // namespace zeromini::tools
