// What `bench step` writes of what it measured.

#ifndef ZEROMINI_TOOLS_BENCH_STEP_REPORT_H_
#define ZEROMINI_TOOLS_BENCH_STEP_REPORT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nlohmann/json.hpp"
#include "tools/bench_costs.h"
#include "tools/bench_report.h"
#include "tools/bench_stepper.h"
#include "tools/bench_workload.h"

namespace zeromini::tools {

// By repetition, of one step: first of this rank, then of the slowest.
struct StepSamples {
  std::vector<double> total;
  std::vector<double> exposed;
  std::vector<double> update;
  int64_t steps = 0;
  // By this rank, in all of them; then of the host that sends most.
  int64_t sent_between_hosts = 0;
  int64_t collectives = 0;
};

// One of those that step, and what it was compared with.
struct StepResult {
  std::string optimizer;
  std::string implementation;
  bool counted = false;  // There are sent bytes and collectives.
  std::optional<LayoutFacts> layout;
  std::optional<int64_t> buffer_bytes;
  StepSamples samples;
  std::optional<Ratio> to_baseline;
  std::optional<Ratio> to_padding_layout;
};

// What all of them were stepped under.
struct StepConditions {
  const Workload* workload = nullptr;
  double clip = 0;
  int stage = 1;
  int ranks = 1;
  int hosts = 1;
  std::string comm;
  int repetitions = 1;
  int steps_in_a_row = 1;
  // Each is made anew for each run: all together would take more than a machine
  // has, in bytes.
  bool one_at_a_time = false;
  int64_t together_bytes = 0;
  int64_t machine_bytes = 0;
  ExchangeCosts costs;
};

nlohmann::json StepRow(const StepResult& result,
                       const StepConditions& conditions);

std::string InGibibytes(int64_t bytes);  // "1.50 GiB"

std::string StepHeading(const StepConditions& conditions);  // Lines for people.

// Of rows as StepRow() makes them: times, and below them layouts.
std::string StepTables(const nlohmann::json& rows);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_STEP_REPORT_H_
