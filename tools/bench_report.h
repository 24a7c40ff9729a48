// What the benchmarks make of their samples.

#ifndef ZEROMINI_TOOLS_BENCH_REPORT_H_
#define ZEROMINI_TOOLS_BENCH_REPORT_H_

#include <vector>

namespace zeromini::tools {

// Of at least one value.
double Median(std::vector<double> values);

// Of values that were measured side by side, pair by pair: what disturbs the
// machine for a while disturbs both of a pair.
struct Ratio {
  double median;
  double low;
  double high;
};
Ratio RatioOfPairs(const std::vector<double>& values,
                   const std::vector<double>& others);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_REPORT_H_
