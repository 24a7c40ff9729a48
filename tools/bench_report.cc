#include "tools/bench_report.h"

#include <algorithm>

namespace zeromini::tools {

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t n = values.size();
  return (values[(n - 1) / 2] + values[n / 2]) / 2;
}

Ratio RatioOfPairs(const std::vector<double>& values,
                   const std::vector<double>& others) {
  std::vector<double> ratios;
  for (size_t i = 0; i < values.size(); ++i) {
    ratios.push_back(values[i] / others[i]);
  }
  const auto [low, high] = std::minmax_element(ratios.begin(), ratios.end());
  return {Median(ratios), *low, *high};
}

}  // namespace zeromini::tools
