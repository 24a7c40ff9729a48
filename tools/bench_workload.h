// What `bench step` steps: parameters of a plausible model, and the time that
// its forward and backward take.

#ifndef ZEROMINI_TOOLS_BENCH_WORKLOAD_H_
#define ZEROMINI_TOOLS_BENCH_WORKLOAD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "zeromini/param_spec.h"
#include "zeromini/plan.h"

namespace zeromini::tools {

inline constexpr int64_t kFewestInALayer = 16 << 10;

// One pass over a model. Its time is shared out by elements; what is too short
// to sleep for is slept later in the pass, all of it by Finish().
class ComputePass {
 public:
  // `spin`: computes on this core; else on a device.
  ComputePass(double seconds, int64_t elements, bool spin);

  void Compute(int64_t elements);
  void Finish() { Spend(0); }

 private:
  void Spend(double least_seconds);

  const double seconds_per_element_;
  const bool spin_;
  double owed_seconds_ = 0;
};

struct Workload {
  std::string model;  // A preset's name; empty for plain layers.
  ModelShape shape;
  std::vector<ParamSpec> params;  // In forward order.
  int layers = 0;
  int64_t elements = 0;           // What is tied is counted once.
  int64_t computed_elements = 0;  // And here by each of its names.

  double forward_seconds = 0;
  double backward_seconds = 0;
  bool spin = false;

  int64_t ElementsOf(int param) const;

  ComputePass Forward() const;
  ComputePass Backward() const;
};

// Transformer layers with rows of 1024 to 4096 elements, and about `elements`
// parameters in all; at least kFewestInALayer in each.
Workload MakeWorkload(int64_t elements, int layers);

// The preset's own tensors.
Workload WorkloadOf(ModelPreset preset);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_WORKLOAD_H_
