// What `zeromini plan` is asked for.

#ifndef ZEROMINI_TOOLS_PLAN_PLAN_FLAGS_H_
#define ZEROMINI_TOOLS_PLAN_PLAN_FLAGS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "zeromini/options.h"

namespace zeromini::tools {

// Flags that take one of a set of words are kept as given: CLI11 has checked
// them.
struct PlanFlags {
  std::vector<std::string> models;
  std::vector<std::string> configs;
  std::string scale = "1";
  std::vector<int> ranks;
  std::vector<std::string> optimizers = {"adam-mini", "adamw"};
  std::vector<std::string> second_moments = {"official"};
  std::string dtype = "fp32";
  std::string master = "fp32";
  std::string state = "fp32";
  std::string gradient_wire = "fp32";
  std::string weight_wire = "fp32";
  std::string memory = "flat";
  std::string value_blocks = "rows";
  // The numbers and the layout, with the defaults of the library.
  OptimizerOptions options;
  bool buckets = false;
  std::string json;
};

void AddPlanFlags(CLI::App* verb, PlanFlags* flags);

DType DTypeOf(const PlanFlags& flags);  // Of weights and gradients.

// Of what all plans share: all but the choice of an optimizer and the model's
// shape.
OptimizerOptions OptionsOf(const PlanFlags& flags);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_PLAN_PLAN_FLAGS_H_
