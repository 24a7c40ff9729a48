// Blocks by the name tables and explicit head dimensions.

#include <utility>

#include "absl/strings/str_cat.h"
#include "shard/block_rules.h"
#include "shard/name_tables.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

struct Heads {
  int64_t query = 0;
  int64_t kv = 0;
  int64_t rows = 0;  // The head dimension.
};

absl::Status Refuse(const ParamSpec& spec, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(spec), ": ", why));
}

absl::StatusOr<int64_t> HeadRows(const ParamSpec& spec,
                                 const ModelShape& model) {
  if (model.head_dim > 0) return model.head_dim;
  if (model.hidden > 0 && model.heads > 0 && model.hidden % model.heads == 0) {
    return model.hidden / model.heads;
  }
  return Refuse(spec, absl::StrCat("its blocks are heads, but the head "
                                   "dimension is unknown (hidden ",
                                   model.hidden, ", heads ", model.heads,
                                   "); set ModelShape::head_dim or give the "
                                   "parameter a BlockRule"));
}

absl::StatusOr<Heads> FindHeads(const ParamSpec& spec,
                                const ModelShape& model) {
  Heads heads;
  ZEROMINI_ASSIGN_OR_RETURN(heads.rows, HeadRows(spec, model));
  heads.query = model.heads;
  heads.kv = model.kv_heads > 0 ? model.kv_heads : model.heads;
  if (heads.query <= 0 || heads.query % heads.kv != 0) {
    return Refuse(
        spec, absl::StrCat("its rows are fused Q, K and V, but ModelShape has ",
                           heads.query, " heads and ", heads.kv, " kv heads"));
  }
  return heads;
}

absl::StatusOr<BlockRule> FusedRule(const ParamSpec& spec, RowOrder order,
                                    const PlanOptions& options,
                                    BlockChoice* choice) {
  ZEROMINI_ASSIGN_OR_RETURN(const Heads heads, FindHeads(spec, options.model));
  ZEROMINI_ASSIGN_OR_RETURN(const RowGeometry geometry, GeometryOf(spec));
  const int64_t expected = (heads.query + 2 * heads.kv) * heads.rows;
  if (geometry.rows != expected) {
    return Refuse(
        spec, absl::StrCat("has ", geometry.rows, " output rows; fused Q, K ",
                           "and V of ", heads.query, " heads, ", heads.kv,
                           " kv heads and head dimension ", heads.rows,
                           " have ", expected,
                           "; set ParamSpec::output_is_last if it is stored ",
                           "[in, out]"));
  }
  const bool whole = options.value_blocks == ValueBlocks::kWhole;
  if (order == RowOrder::kThirds) {
    const int64_t kv_rows = heads.kv * heads.rows;
    return BlockRule::Fused({{heads.query * heads.rows, heads.rows},
                             {kv_rows, heads.rows},
                             {kv_rows, whole ? kv_rows : 1}});
  }
  if (whole) {
    choice->warnings.push_back(
        absl::StrCat(Describe(spec),
                     ": its value rows lie between query and key rows, so "
                     "each kv head's are one block, not all of them"));
  }
  return BlockRule::Fused({{heads.query / heads.kv * heads.rows, heads.rows},
                           {heads.rows, heads.rows},
                           {heads.rows, whole ? heads.rows : 1}});
}

// Transposed storage that nobody declared would give a scalar per input.
absl::Status CheckConv1d(const ParamSpec& spec, const ModelShape& model) {
  if (spec.output_is_last || spec.shape.size() != 2 || model.hidden <= 0 ||
      spec.shape[0] == spec.shape[1]) {
    return absl::OkStatus();
  }
  const bool expands = NameComponents(spec.name).back() == "c_fc";
  if (spec.shape[expands ? 0 : 1] == model.hidden) {
    return Refuse(spec, "is stored [in, out]; set ParamSpec::output_is_last");
  }
  return absl::OkStatus();
}

void SetSlices(const NameClass& found, ParamSpec& spec) {
  if (spec.slices != 1 || spec.shape.empty()) return;
  const int dims = static_cast<int>(spec.shape.size());
  const bool stacked = found.stackable && dims == found.natural_dims + 1;
  const bool experts = found.role == Role::kMlp && dims == 3;
  if (stacked || experts) spec.slices = spec.shape[0];
}

void ChooseDefault(const ParamSpec& spec, bool matrix, BlockChoice* choice) {
  choice->chosen_by = "default";
  choice->rule = matrix ? BlockRule::Rows() : BlockRule::Whole();
  choice->decays = matrix;
  choice->warnings.push_back(absl::StrCat(
      Describe(spec), ": no name table knows it; chose ",
      matrix ? "one scalar per row of dimension 0, with weight decay"
             : "one scalar for the tensor, no weight decay",
      "; set ParamSpec::rule to say otherwise"));
}

absl::StatusOr<BlockRule> RuleFor(const ParamSpec& spec, const NameClass& found,
                                  const PlanOptions& options,
                                  BlockChoice* choice) {
  if (found.order == RowOrder::kConv1dOutput) {
    ZEROMINI_RETURN_IF_ERROR(CheckConv1d(spec, options.model));
  }
  switch (found.role) {
    case Role::kBias:
      return BlockRule::Element();
    case Role::kNorm:
      return BlockRule::Whole();
    case Role::kFusedQkv:
      return FusedRule(spec, found.order, options, choice);
    case Role::kQuery:
    case Role::kKey: {
      ZEROMINI_ASSIGN_OR_RETURN(const int64_t rows,
                                HeadRows(spec, options.model));
      return BlockRule::Heads(rows);
    }
    case Role::kValue:
      if (options.value_blocks == ValueBlocks::kWhole) {
        return BlockRule::Whole();
      }
      return BlockRule::Rows();
    default:
      return BlockRule::Rows();
  }
}

}  // namespace

absl::StatusOr<BlockChoice> ChooseByTables(const PlanOptions& options,
                                           ParamSpec& spec) {
  int dims = static_cast<int>(spec.shape.size());
  const NameClass found =
      ClassifyName(spec.name, spec.slices > 1 ? dims - 1 : dims);
  SetSlices(found, spec);
  ZEROMINI_ASSIGN_OR_RETURN(const RowGeometry geometry, GeometryOf(spec));
  BlockChoice choice;
  choice.role = found.role;
  choice.chosen_by = found.table;
  choice.decays = found.role != Role::kNorm && found.role != Role::kBias;
  const bool vector_role =
      found.role == Role::kNorm || found.role == Role::kBias;
  if (found.role == Role::kOther || (!geometry.matrix && !vector_role)) {
    choice.role = Role::kOther;
    ChooseDefault(spec, geometry.matrix, &choice);
  } else if (options.algorithm == Algorithm::kAdamMini) {
    ZEROMINI_ASSIGN_OR_RETURN(choice.rule,
                              RuleFor(spec, found, options, &choice));
  }
  if (options.algorithm == Algorithm::kAdamW) {
    choice.rule = BlockRule::Element();
    choice.warnings.clear();
  }
  return choice;
}

}  // namespace zeromini
