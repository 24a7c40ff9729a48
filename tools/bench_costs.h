// What a planner weighs against a byte on the wire, measured on a group.

#ifndef ZEROMINI_TOOLS_BENCH_COSTS_H_
#define ZEROMINI_TOOLS_BENCH_COSTS_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"
#include "zeromini/communicator.h"

namespace zeromini::tools {

// Seconds of the slowest rank; 0: not measured.
struct ExchangeCosts {
  double copied_byte = 0;  // Read once and written once, all ranks at a time.
  // Sent by a rank, in a large reduce-scatter and all-gather.
  double wire_byte = 0;
  double small_collective = 0;  // Begun, and waited for.

  // What PlanOptions takes; null without a wire.
  std::optional<double> copy_cost() const;
  std::optional<int64_t> collective_cost_bytes() const;

  // Puts "copy_cost" and "collective_cost_bytes" into `row`, or null.
  void AddTo(nlohmann::json* row) const;
  std::string ToText() const;  // A line for people.
};

// What a rank sends of a payload in an exchange of one pass.
inline double SentBytes(double payload_bytes, int ranks) {
  return payload_bytes * (ranks - 1) / ranks;
}

// Collective. Of the runtime's copy kernel, over arrays that no cache holds.
absl::StatusOr<double> SecondsPerCopiedByte(Communicator& group);

// Collective. All three. `payload_bytes` are reduce-scattered and gathered, 4
// times each. Without another rank only copies are measured.
absl::StatusOr<ExchangeCosts> MeasureCosts(int64_t payload_bytes,
                                           Communicator& group);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_COSTS_H_
