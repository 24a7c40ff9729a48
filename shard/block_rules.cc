#include "shard/block_rules.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "shard/stretch.h"
#include "shard/units.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

// Beyond this, bytes of all ranks' segments could overflow an int64_t.
constexpr int64_t kMaxElements = int64_t{1} << 48;

absl::Status Refuse(const ParamSpec& spec, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(spec), ": ", why));
}

absl::Status CheckShape(const ParamSpec& spec) {
  if (spec.shape.empty()) {
    return Refuse(spec, "its shape is not given; that of a scalar is {1}");
  }
  int64_t elements = 1;
  for (int64_t size : spec.shape) {
    if (size <= 0) return Refuse(spec, "every dimension must be positive");
    if (size > kMaxElements / elements) {
      return Refuse(spec, "has more than 2^48 elements");
    }
    elements *= size;
  }
  return absl::OkStatus();
}

// Fields without the kind that reads them, and kinds without their fields.
absl::Status CheckFields(const ParamSpec& spec) {
  const BlockRule& rule = spec.rule;
  const bool heads = rule.kind == BlockRule::Kind::kHeads;
  const bool fused = rule.kind == BlockRule::Kind::kFused;
  if (!heads && rule.rows_per_head != 0) {
    return Refuse(spec, absl::StrCat("ParamSpec::rule.rows_per_head is ",
                                     rule.rows_per_head,
                                     ", but the rule is not "
                                     "BlockRule::Kind::kHeads"));
  }
  if (!fused && !rule.segments.empty()) {
    return Refuse(spec,
                  "ParamSpec::rule.segments is given, but the rule is not "
                  "BlockRule::Kind::kFused");
  }
  if (heads && rule.rows_per_head == 0) {
    return Refuse(spec,
                  "BlockRule::Kind::kHeads needs "
                  "ParamSpec::rule.rows_per_head, the rows per head");
  }
  if (fused && rule.segments.empty()) {
    return Refuse(spec,
                  "BlockRule::Kind::kFused needs ParamSpec::rule.segments, "
                  "the fused segments");
  }
  return absl::OkStatus();
}

absl::Status CheckMatrix(const ParamSpec& spec, const RowGeometry& rows,
                         MomentForm form) {
  if (rows.matrix) return absl::OkStatus();
  return Refuse(
      spec, absl::StrCat(
                "second moments that are ",
                form == MomentForm::kColumns ? "shared by columns" : "factored",
                " need a matrix, or a stack of them with slices set; "
                "a vector takes BlockRule::Element()"));
}

// What else would make the groups few enough, if anything does.
std::string FewerGroups(int64_t rows, BlockCuts cuts) {
  const bool few = (rows - 1) / kColumnGroupRows < kMaxColumnAddends;
  const bool ragged = rows % kColumnGroupRows != 0;
  if (!few) return "";
  return absl::StrCat(
      ragged ? absl::StrCat("pad its rows to a multiple of ", kColumnGroupRows)
             : "",
      ragged && cuts != BlockCuts::kWhole ? " and " : "",
      cuts != BlockCuts::kWhole ? "set blocks to BlockCuts::kWhole" : "",
      ", or ");
}

// Sums over a matrix's columns are exact as far as kMaxColumnAddends.
absl::Status CheckColumns(const ParamSpec& spec, const RowGeometry& rows,
                          const BlockSegment& segment, BlockCuts cuts) {
  ZEROMINI_RETURN_IF_ERROR(CheckMatrix(spec, rows, segment.form));
  if (segment.rows_per_block != 1) {
    return Refuse(spec,
                  absl::StrCat("a segment of ", segment.rows, " rows that is ",
                               MomentFormName(segment.form),
                               " must have 1 row per block, not ",
                               segment.rows_per_block));
  }
  const int64_t addends = segment.rows / ColumnGroupRowsOf(segment.rows, cuts);
  if (addends <= kMaxColumnAddends) return absl::OkStatus();
  return Refuse(
      spec,
      absl::StrCat("a matrix of ", segment.rows, " rows has ", addends,
                   " groups of rows to sum over columns, ", "more than ",
                   kMaxColumnAddends, "; ", FewerGroups(segment.rows, cuts),
                   "give it BlockRule::Rows()"));
}

std::vector<BlockSegment> WithKinds(std::vector<BlockSegment> segments) {
  for (BlockSegment& segment : segments) {
    if (segment.kind.has_value()) continue;
    segment.kind =
        segment.rows_per_block == 1 ? BlockKind::kRow : BlockKind::kHead;
  }
  return segments;
}

// Rows that count may be any numbers: no sum of theirs must wrap around.
absl::StatusOr<std::vector<BlockSegment>> SegmentsOf(const ParamSpec& spec,
                                                     const BlockRule& rule,
                                                     const RowGeometry& rows) {
  int64_t period = 0;
  for (const BlockSegment& segment : rule.segments) {
    if (segment.rows <= 0 || segment.rows_per_block <= 0 ||
        segment.rows % segment.rows_per_block != 0) {
      return Refuse(spec, absl::StrCat("a fused segment of ", segment.rows,
                                       " rows cannot have blocks of ",
                                       segment.rows_per_block));
    }
    if (segment.form < MomentForm::kBlocks ||
        segment.form > MomentForm::kColumns) {
      return Refuse(spec, absl::StrCat("rule.segments[].form is ",
                                       static_cast<int>(segment.form),
                                       ", but must be 0 to 2"));
    }
    if (segment.rows > rows.rows - period) {
      return Refuse(
          spec,
          absl::StrCat("fused segments have more rows than its ", rows.rows));
    }
    period += segment.rows;
  }
  if (period == 0 || rows.rows % period != 0) {
    return Refuse(spec, absl::StrCat(rows.rows, " rows are no multiple of ",
                                     period, " rows of fused segments"));
  }
  return WithKinds(rule.segments);
}

absl::StatusOr<std::vector<BlockSegment>> BlocksOf(const ParamSpec& spec,
                                                   const BlockRule& rule,
                                                   const RowGeometry& rows) {
  switch (rule.kind) {
    case BlockRule::Kind::kRows:
      return std::vector<BlockSegment>{{rows.rows, 1, BlockKind::kRow}};
    case BlockRule::Kind::kWhole:
      return std::vector<BlockSegment>{
          {rows.rows, rows.rows, BlockKind::kWhole}};
    case BlockRule::Kind::kHeads:
      if (rule.rows_per_head <= 0 || rows.rows % rule.rows_per_head != 0) {
        return Refuse(spec, absl::StrCat(rows.rows, " rows are no multiple of ",
                                         rule.rows_per_head, " rows per head"));
      }
      return std::vector<BlockSegment>{
          {rows.rows, rule.rows_per_head, BlockKind::kHead}};
    case BlockRule::Kind::kFactored:
      return std::vector<BlockSegment>{
          {rows.rows, 1, BlockKind::kRow, MomentForm::kFactored}};
    case BlockRule::Kind::kColumns:
      return std::vector<BlockSegment>{
          {rows.rows, 1, BlockKind::kRow, MomentForm::kColumns}};
    case BlockRule::Kind::kFused:
      break;
    case BlockRule::Kind::kAuto:
    case BlockRule::Kind::kElement:
      return std::vector<BlockSegment>{};
  }
  return SegmentsOf(spec, rule, rows);
}

int64_t CountBlocks(const PlannedParam& param) {
  if (param.element_state) return param.rows * param.row_elements;
  int64_t period = 0;
  int64_t blocks = 0;
  for (const BlockSegment& segment : param.blocks) {
    period += segment.rows;
    blocks += BlockScalars(segment);
    if (segment.form != MomentForm::kBlocks) blocks += param.row_elements;
  }
  return period == 0 ? 0 : param.rows / period * blocks;
}

Algorithm AlgorithmOf(int group, const PlanOptions& options) {
  const int known = static_cast<int>(options.group_algorithms.size());
  if (group < 0 || group >= known) return options.algorithm;
  return options.group_algorithms[group].value_or(options.algorithm);
}

// Fused segments become matrices of their own.
BlockRule AsFactored(BlockRule rule, bool matrix) {
  if (!matrix || rule.kind == BlockRule::Kind::kElement) {
    return BlockRule::Element();
  }
  if (rule.kind != BlockRule::Kind::kFused) return BlockRule::Factored();
  for (BlockSegment& segment : rule.segments) {
    segment = {segment.rows, 1, BlockKind::kRow, MomentForm::kFactored};
  }
  return rule;
}

// r_i c_j is the same either way round, and what is shared by columns of the
// one way is shared by rows of the other: then nothing need be transposed.
// Padding rows would become columns, which no average leaves out.
void TakeAsStored(BlockRule* rule, ParamSpec* spec) {
  if (!spec->output_is_last || spec->padding_rows > 0) return;
  if (rule->kind == BlockRule::Kind::kColumns) {
    *rule = BlockRule::Rows();
  } else if (rule->kind != BlockRule::Kind::kFactored) {
    return;
  }
  spec->output_is_last = false;
}

absl::StatusOr<BlockChoice> Choose(const PlanOptions& options,
                                   ParamSpec& spec) {
  const BlockRule explicit_rule = spec.rule;
  const bool is_explicit = explicit_rule.kind != BlockRule::Kind::kAuto;
  PlanOptions names = options;
  // What needs no blocks must not fail for want of a head dimension.
  if (is_explicit || spec.frozen || options.algorithm == Algorithm::kSgd) {
    names.algorithm = Algorithm::kAdamW;
  }
  ZEROMINI_ASSIGN_OR_RETURN(BlockChoice choice,
                            names.naming == Naming::kOfficial
                                ? ChooseAsOfficial(names, spec)
                                : ChooseByTables(names, spec));
  if (!is_explicit) {
    const bool factored = names.algorithm == Algorithm::kAdamMini &&
                          options.second_moment == SecondMoment::kFactored;
    if (factored) {
      ZEROMINI_ASSIGN_OR_RETURN(const RowGeometry geometry, GeometryOf(spec));
      choice.rule = AsFactored(std::move(choice.rule), geometry.matrix);
    }
    return choice;
  }
  choice.rule = explicit_rule;
  choice.chosen_by = "rule";
  choice.warnings.clear();
  return choice;
}

absl::Status SetBlocks(const ParamSpec& spec, const BlockChoice& choice,
                       RowGeometry geometry, BlockCuts cuts,
                       PlannedParam* param) {
  ZEROMINI_ASSIGN_OR_RETURN(param->blocks,
                            BlocksOf(spec, choice.rule, geometry));
  for (const BlockSegment& segment : param->blocks) {
    if (segment.form == MomentForm::kBlocks) continue;
    ZEROMINI_RETURN_IF_ERROR(CheckColumns(spec, geometry, segment, cuts));
  }
  param->element_state = param->algorithm != Algorithm::kAdamMini ||
                         choice.rule.kind == BlockRule::Kind::kElement;
  if (param->element_state || spec.frozen) param->blocks.clear();
  if (param->element_state && !geometry.matrix) {
    geometry.rows *= geometry.row_elements;
    geometry.row_elements = 1;
  }
  param->rows = geometry.slices * geometry.rows;
  param->row_elements = geometry.row_elements;
  param->units = PlainUnits(param->blocks, param->row_elements, cuts);
  if (param->units.empty()) {
    param->units = PlainUnits({{param->rows, 1}}, param->row_elements, cuts);
  }
  param->blocks_total =
      spec.frozen || !param->keeps_second_moment() ? 0 : CountBlocks(*param);
  if (spec.padding_rows < 0 ||
      (spec.padding_rows > 0 &&
       (spec.padding_rows >= param->rows || geometry.slices > 1))) {
    return Refuse(spec, absl::StrCat("padding_rows is ", spec.padding_rows,
                                     " of ", param->rows, " rows"));
  }
  param->padding_rows = spec.padding_rows;
  return absl::OkStatus();
}

}  // namespace

std::string Describe(const ParamSpec& spec) {
  return absl::StrCat(spec.name, " [", absl::StrJoin(spec.shape, ", "), "]");
}

absl::StatusOr<RowGeometry> GeometryOf(const ParamSpec& spec) {
  ZEROMINI_RETURN_IF_ERROR(CheckShape(spec));
  RowGeometry geometry;
  size_t first = 0;
  geometry.slices = spec.slices;
  if (spec.slices < 1) return Refuse(spec, "slices must be at least 1");
  if (spec.slices > 1) {
    if (spec.shape.size() < 2 || spec.shape[0] != spec.slices) {
      return Refuse(spec, absl::StrCat("is no stack of ", spec.slices,
                                       " slices along dimension 0"));
    }
    first = 1;
  }
  const size_t dims = spec.shape.size() - first;
  geometry.matrix = dims >= 2;
  if (spec.output_is_last && dims != 2) {
    return Refuse(spec,
                  "output_is_last needs a matrix, or a stack of them with "
                  "slices set");
  }
  int64_t elements = 1;
  for (size_t i = first; i < spec.shape.size(); ++i) elements *= spec.shape[i];
  if (geometry.matrix) {
    geometry.rows = spec.output_is_last ? spec.shape.back() : spec.shape[first];
  }
  geometry.row_elements = elements / geometry.rows;
  return geometry;
}

absl::StatusOr<PlannedParam> ResolveParam(const ParamSpec& original,
                                          const PlanOptions& options,
                                          std::vector<std::string>* warnings) {
  ParamSpec spec = original;
  ZEROMINI_RETURN_IF_ERROR(CheckShape(spec));
  ZEROMINI_RETURN_IF_ERROR(CheckFields(spec));
  PlanOptions own = options;
  own.algorithm = AlgorithmOf(spec.hyper_group, options);
  ZEROMINI_ASSIGN_OR_RETURN(BlockChoice choice, Choose(own, spec));
  if (own.algorithm == Algorithm::kAdamMini) {
    TakeAsStored(&choice.rule, &spec);
  }
  ZEROMINI_ASSIGN_OR_RETURN(RowGeometry geometry, GeometryOf(spec));
  PlannedParam param;
  param.name = spec.name;
  param.shape = spec.shape;
  param.transposed = spec.output_is_last;
  param.role = choice.role;
  param.chosen_by = choice.chosen_by;
  param.decays = choice.decays;
  param.frozen = spec.frozen;
  param.hyper_group = std::max(spec.hyper_group, 0);
  param.dtype = spec.dtype;
  param.expert = spec.expert;
  param.algorithm = own.algorithm;
  ZEROMINI_RETURN_IF_ERROR(
      SetBlocks(spec, choice, geometry, options.blocks, &param));
  if (!spec.frozen) {
    for (std::string& warning : choice.warnings) {
      warnings->push_back(std::move(warning));
    }
  }
  return param;
}

}  // namespace zeromini
