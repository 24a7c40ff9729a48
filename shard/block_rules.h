// Block rules: from one ParamSpec to its rows, blocks and units.

#ifndef ZEROMINI_SHARD_BLOCK_RULES_H_
#define ZEROMINI_SHARD_BLOCK_RULES_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zeromini/plan.h"

namespace zeromini {

// "model.norm.weight [4096]", as messages name a parameter.
std::string Describe(const ParamSpec& spec);

// A tensor as a stack of `slices`, each of `rows` rows of `row_elements`.
struct RowGeometry {
  int64_t slices = 1;
  int64_t rows = 1;
  int64_t row_elements = 1;
  bool matrix = false;  // A slice has two or more dimensions.
};

// InvalidArgument if the shape does not fit slices or output_is_last.
absl::StatusOr<RowGeometry> GeometryOf(const ParamSpec& spec);

// What a naming decided, in rows of one slice.
struct BlockChoice {
  BlockRule rule;  // Never kAuto.
  Role role = Role::kOther;
  std::string chosen_by;
  bool decays = true;
  std::vector<std::string> warnings;
};

// Everything but tied_to, layer, layer_set and bucket. Appends to
// `warnings`. InvalidArgument, naming the parameter, if the rule does not fit
// or the model shape lacks what the rule needs.
absl::StatusOr<PlannedParam> ResolveParam(const ParamSpec& spec,
                                          const PlanOptions& options,
                                          std::vector<std::string>* warnings);

// The two namings. They may adjust `spec` (slices, output_is_last).
absl::StatusOr<BlockChoice> ChooseByTables(const PlanOptions& options,
                                           ParamSpec& spec);
absl::StatusOr<BlockChoice> ChooseAsOfficial(const PlanOptions& options,
                                             ParamSpec& spec);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_BLOCK_RULES_H_
