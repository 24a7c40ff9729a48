#include "shard/orientation.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "shard/head_rules.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

bool IsLinear(Role role) {
  switch (role) {
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
    case Role::kFusedQkv:
    case Role::kAttentionOutput:
    case Role::kMlp:
      return true;
    default:
      return false;
  }
}

// Whose averages are the same either way round.
bool IsFactored(const PlannedParam& param) {
  return param.blocks.size() == 1 &&
         param.blocks.front().form == MomentForm::kFactored;
}

bool IsQuestioned(const PlannedParam& param) {
  return !IsFactored(param) && IsLinear(param.role) &&
         param.shape.size() >= 2 && !param.frozen && param.tied_to < 0 &&
         param.algorithm == Algorithm::kAdamMini;
}

bool IsSquare(const PlannedParam& param) {
  return param.row_elements == param.shape.back() &&
         param.row_elements == param.shape[param.shape.size() - 2];
}

// How the matrices below a module are stored.
struct Seen {
  bool out_in = false;
  bool in_out = false;
};

// The modules around a parameter, the innermost first, the root ("") last.
std::vector<std::string> ModulesOf(const std::string& name) {
  std::vector<std::string> parts = NameComponents(name);
  std::vector<std::string> modules;
  while (!parts.empty()) {
    parts.pop_back();
    modules.push_back(absl::StrJoin(parts, "."));
  }
  return modules;
}

bool DiffersFromNeighbours(const PlannedParam& param,
                           const std::map<std::string, Seen>& seen) {
  for (const std::string& module : ModulesOf(param.name)) {
    const auto at = seen.find(module);
    if (at == seen.end()) continue;
    const bool mixed = at->second.out_in && at->second.in_out;
    return !mixed && at->second.in_out != param.transposed;
  }
  return false;
}

}  // namespace

absl::Status CheckOrientation(const ParamSpec& spec, const NameClass& found,
                              const ModelShape& model) {
  ZEROMINI_ASSIGN_OR_RETURN(const RowGeometry geometry, GeometryOf(spec));
  if (found.hidden == HiddenSide::kUnknown || model.hidden <= 0 ||
      !geometry.matrix) {
    return absl::OkStatus();
  }
  // A cross-attention's values may have inputs of another size.
  if (found.role == Role::kValue && HasRowsOfKvHeads(geometry, model)) {
    return absl::OkStatus();
  }
  const bool input = found.hidden == HiddenSide::kInput;
  const int64_t expected = input ? geometry.row_elements : geometry.rows;
  const int64_t other = input ? geometry.rows : geometry.row_elements;
  if (expected == model.hidden || other != model.hidden) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      Describe(spec), ": has ", expected, input ? " inputs" : " outputs",
      " where the model's hidden size is ", model.hidden, ", and ", other,
      input ? " outputs" : " inputs", "; it looks stored ",
      spec.output_is_last ? "[out, in]: clear ParamSpec::output_is_last"
                          : "[in, out]: set ParamSpec::output_is_last",
      ", or, if it is right as it is, a ParamSpec::rule as BlockRule::Rows()"));
}

void WarnOfSquares(absl::Span<const PlannedParam> params,
                   std::vector<std::string>* warnings) {
  std::map<std::string, Seen> seen;
  for (const PlannedParam& param : params) {
    if (!IsQuestioned(param) || IsSquare(param)) continue;
    for (const std::string& module : ModulesOf(param.name)) {
      (param.transposed ? seen[module].in_out : seen[module].out_in) = true;
    }
  }
  const PlannedParam* first = nullptr;
  int more = 0;
  for (const PlannedParam& param : params) {
    if (!IsQuestioned(param) || !IsSquare(param) || param.chosen_by == "rule" ||
        !DiffersFromNeighbours(param, seen)) {
      continue;
    }
    more += first != nullptr ? 1 : 0;
    if (first == nullptr) first = &param;
  }
  if (first == nullptr) return;
  warnings->push_back(absl::StrCat(
      first->name, " [", absl::StrJoin(first->shape, ", "),
      "]: is square and taken as stored ",
      first->transposed ? "[in, out], while the matrices beside it are not"
                        : "[out, in], while those beside it are [in, out]",
      "; set or clear ParamSpec::output_is_last, or give it a ParamSpec::rule",
      more > 0 ? absl::StrCat(" (and ", more, " more)") : ""));
}

}  // namespace zeromini
