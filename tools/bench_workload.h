// What `bench step` steps: parameters of a plausible model, and the time that
// its forward and backward take.

#ifndef ZEROMINI_TOOLS_BENCH_WORKLOAD_H_
#define ZEROMINI_TOOLS_BENCH_WORKLOAD_H_

#include <cstdint>
#include <vector>

#include "zeromini/param_spec.h"

namespace zeromini::tools {

inline constexpr int64_t kFewestInALayer = 16 << 10;

struct Workload {
  std::vector<ParamSpec> params;  // In forward order.
  std::vector<int64_t> offsets;   // Of each, if they lay one after another.
  int64_t elements = 0;

  double forward_seconds = 0;
  double backward_seconds = 0;
  bool spin = false;  // Computes on this core; else on a device.

  int64_t ElementsOf(int param) const;

  // Those of a share of the elements.
  void Forward(int64_t share_elements) const;
  void Backward(int64_t share_elements) const;

 private:
  void Compute(double seconds) const;
};

// Transformer layers with rows of 1024 to 4096 elements, and about `elements`
// parameters in all; at least kFewestInALayer in each.
Workload MakeWorkload(int64_t elements, int layers);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_WORKLOAD_H_
