// Steps several contenders in turn, and reports.

#ifndef ZEROMINI_TOOLS_BENCH_STEP_RUN_H_
#define ZEROMINI_TOOLS_BENCH_STEP_RUN_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "tools/bench_group.h"
#include "tools/bench_stepper.h"
#include "tools/bench_workload.h"

namespace zeromini::tools {

struct StepBenchOptions {
  StepSettings settings;
  int repetitions = 7;
  int64_t memory_budget = 0;  // Bytes of a machine; 0: what it has now.
  std::string json;
};

// Collective. Of the recipes a kShardedByPadding is what the one before it is
// compared with, and a kReplicated, the last, what all are. All are there at a
// time if they fit the machine; otherwise each is made anew for each of its
// runs. ResourceExhausted, before it takes memory, if one alone cannot fit.
absl::Status RunStepBench(const StepBenchOptions& options,
                          const Workload& workload,
                          const std::vector<StepperRecipe>& recipes,
                          BenchRank& rank);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_STEP_RUN_H_
