#include "tools/sharing/moment_parts.h"

#include <utility>

#include "absl/strings/match.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

std::string MlpKind(const std::string& name) {
  const std::pair<const char*, const char*> known[] = {
      {".gate_proj.", "gate"}, {".up_proj.", "up"},  {".c_fc.", "up"},
      {".down_proj.", "down"}, {".c_proj.", "down"},
  };
  for (const auto& [part, kind] : known) {
    if (absl::StrContains(name, part)) return kind;
  }
  return "mlp";
}

// Both are embeddings to a partition, but the rows of one are tokens, some
// rare.
bool IsOfPositions(const std::string& name) {
  return absl::StrContains(name, "wpe.") ||
         absl::StrContains(name, "embed_positions.") ||
         absl::StrContains(name, "position_embeddings.");
}

std::string KindOf(const PlannedParam& param) {
  switch (param.role) {
    case Role::kEmbedding:
      return IsOfPositions(param.name) ? "position" : "embedding";
    case Role::kAttentionOutput:
      return "projection";
    case Role::kMlp:
      return MlpKind(param.name);
    case Role::kOutput:
    case Role::kQuery:
    case Role::kKey:
    case Role::kValue:
    case Role::kNorm:
    case Role::kBias:
      return RoleName(param.role);
    default:
      return "other";
  }
}

// The same parameters under Adam-mini. Their places in the plan stay.
absl::StatusOr<Plan> AdamMiniPlan(const Plan& plan) {
  std::vector<ParamSpec> specs;
  for (const PlannedParam& param : plan.params) {
    ParamSpec spec;
    spec.name = param.name;
    spec.shape = param.shape;
    spec.output_is_last = param.transposed;
    spec.padding_rows = param.padding_rows;
    spec.dtype = param.dtype;
    spec.layer = param.layer;
    spec.frozen = param.frozen;
    if (param.tied_to >= 0) spec.tied_to = plan.params[param.tied_to].name;
    specs.push_back(std::move(spec));
  }
  PlanOptions options = plan.options;
  options.algorithm = Algorithm::kAdamMini;
  options.group_algorithms.clear();
  return MakePlan(specs, options);
}

void SetRows(const BlockSegment& blocks, MomentPart& part) {
  part.rows = blocks.rows;
  part.official_scalars = blocks.rows / blocks.rows_per_block;
  part.official_form = BlockKindName(*blocks.kind);
  if (blocks.kind == BlockKind::kHead) {
    part.rows_per_head = blocks.rows_per_block;
  }
}

bool IsParted(const PlannedParam& param) {
  if (param.role != Role::kFusedQkv || param.blocks.size() != 3) return false;
  int64_t rows = 0;
  for (const BlockSegment& segment : param.blocks) rows += segment.rows;
  return rows == param.rows;
}

void AddFused(const PlannedParam& param, MomentPart part,
              std::vector<MomentPart>& parts) {
  const char* const kinds[] = {"query", "key", "value"};
  for (int i = 0; i < 3; ++i) {
    part.kind = part.part = kinds[i];
    part.rows_per_head = 0;
    SetRows(param.blocks[i], part);
    parts.push_back(part);
    part.first_row += part.rows;
  }
}

}  // namespace

const std::vector<std::string>& MomentKinds() {
  static const auto* const kinds = new std::vector<std::string>{
      "query", "key",       "value",    "projection", "gate", "up",   "down",
      "mlp",   "embedding", "position", "output",     "norm", "bias", "other"};
  return *kinds;
}

absl::StatusOr<std::vector<MomentPart>> PartsOf(const Plan& plan) {
  ZEROMINI_ASSIGN_OR_RETURN(const Plan mini, AdamMiniPlan(plan));
  std::vector<MomentPart> parts;
  for (size_t p = 0; p < mini.params.size(); ++p) {
    const PlannedParam& param = mini.params[p];
    if (!param.has_state()) continue;
    MomentPart part;
    part.param = static_cast<int>(p);
    part.name = param.name;
    part.role = RoleName(param.role);
    part.kind = KindOf(param);
    part.shape = param.shape;
    part.columns = param.row_elements;
    part.transposed = param.transposed;
    if (IsParted(param)) {
      AddFused(param, part, parts);
      continue;
    }
    if (param.blocks.size() == 1) SetRows(param.blocks[0], part);
    part.rows = param.rows;
    part.official_scalars = param.blocks_total;
    if (part.official_form.empty()) {
      part.official_form = param.element_state ? "element" : "mixed";
    }
    parts.push_back(std::move(part));
  }
  return parts;
}

MomentView ViewOf(const MomentPart& part, const float* second_moment) {
  MomentView view;
  view.rows = part.rows;
  view.columns = part.columns;
  view.rows_per_head = part.rows_per_head;
  view.row_stride = part.transposed ? 1 : part.columns;
  view.column_stride = part.transposed ? part.shape.back() : 1;
  view.data = second_moment + part.first_row * view.row_stride;
  return view;
}

int64_t ScalarsOf(const MomentPart& part, SharedForm form) {
  switch (form) {
    case SharedForm::kWhole:
      return 1;
    case SharedForm::kHead:
      return part.rows / part.rows_per_head;
    case SharedForm::kRow:
      return part.rows;
    case SharedForm::kColumn:
      return part.columns;
    case SharedForm::kFactored:
      return part.rows + part.columns;
  }
  return part.elements();
}

}  // namespace zeromini::tools
