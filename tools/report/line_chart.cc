#include "tools/report/line_chart.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace zeromini::tools {
namespace {

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
  double width = 0, height = 0;
  double X(double v) const {
    return kLeft + (v - x.low) / (x.high - x.low) * (width - kLeft - kRight);
  }
  double Y(double v) const {
    return height - kBottom -
           (v - y.low) / (y.high - y.low) * (height - kTop - kBottom);
  }
};

Axes AxesFor(const ChartText& text, const std::vector<Curve>& curves) {
  Axes axes;
  axes.width = text.width;
  axes.height = text.height;
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
  for (double v : Ticks(axes.y.low, axes.y.high, text.height / 60)) {
    absl::StrAppendFormat(
        &svg,
        "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
        "y2=\"%.1f\"/><text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
        "text-anchor=\"end\">%g</text>\n",
        kLeft, axes.width - kRight, axes.Y(v), axes.Y(v), kLeft - 8,
        axes.Y(v) + 4, v);
  }
  for (double v : Ticks(axes.x.low, axes.x.high, text.width / 110)) {
    absl::StrAppendFormat(
        &svg,
        "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" "
        "y2=\"%.1f\"/><text class=\"tick\" x=\"%.1f\" y=\"%.1f\" "
        "text-anchor=\"middle\">%g</text>\n",
        axes.X(v), axes.X(v), kTop, axes.height - kBottom, axes.X(v),
        axes.height - kBottom + 18, v);
  }
  absl::StrAppendFormat(
      &svg,
      "<text class=\"label\" x=\"%.1f\" y=\"%.1f\" "
      "text-anchor=\"middle\">%s</text>\n"
      "<text class=\"label\" text-anchor=\"middle\" "
      "transform=\"translate(14 %.1f) rotate(-90)\">%s</text>\n",
      (kLeft + axes.width - kRight) / 2, axes.height - 8,
      EscapeHtml(text.x_label), (kTop + axes.height - kBottom) / 2,
      EscapeHtml(text.y_label));
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
  const Axes axes = AxesFor(text, curves);
  std::string svg = absl::StrFormat(
      "<svg class=\"chart\" viewBox=\"0 0 %.0f %.0f\" role=\"img\" "
      "aria-label=\"%s\">\n"
      "<clipPath id=\"%s\"><rect x=\"%.0f\" y=\"%.0f\" width=\"%.0f\" "
      "height=\"%.0f\"/></clipPath>\n",
      axes.width, axes.height, EscapeHtml(text.title), text.id, kLeft, kTop,
      axes.width - kLeft - kRight, axes.height - kTop - kBottom);
  absl::StrAppend(&svg, Grid(axes, text), "<g clip-path=\"url(#", text.id,
                  ")\">\n");
  for (const Curve& curve : curves) svg += Line(axes, curve);
  return svg + "</g>\n</svg>\n";
}

}  // namespace zeromini::tools
