#include "shard/head_rules.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

absl::Status Refuse(const ParamSpec& spec, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(spec), ": ", why));
}

int64_t KvHeads(const ModelShape& model) {
  return model.kv_heads > 0 ? model.kv_heads : model.heads;
}

// 0: unknown.
int64_t HeadDim(const ModelShape& model) {
  if (model.head_dim > 0) return model.head_dim;
  if (model.hidden <= 0 || model.heads <= 0) return 0;
  return model.hidden % model.heads == 0 ? model.hidden / model.heads : 0;
}

absl::StatusOr<int64_t> NeedHeadDim(const ParamSpec& spec,
                                    const ModelShape& model) {
  const int64_t dim = HeadDim(model);
  if (dim > 0) return dim;
  const std::string why =
      model.hidden > 0 && model.heads > 0
          ? absl::StrCat(model.heads, " heads do not divide hidden ",
                         model.hidden)
          : absl::StrCat("it is unknown (hidden ", model.hidden, ", heads ",
                         model.heads, ")");
  return Refuse(spec, absl::StrCat("its blocks are heads and need a head "
                                   "dimension, but ",
                                   why,
                                   "; set ModelShape::head_dim, or give it a "
                                   "ParamSpec::rule"));
}

// What the tensor's rows should be a multiple of head_dim for.
struct Expected {
  int64_t heads = 0;  // Times head_dim.
  std::string text;   // "16 heads".
};

Expected ExpectedOf(Role role, const ModelShape& model) {
  const int64_t kv = KvHeads(model);
  switch (role) {
    case Role::kQuery:
      return {model.heads, absl::StrCat(model.heads, " heads")};
    case Role::kKey:
      return {kv, absl::StrCat(kv, " kv heads")};
    default:
      return {model.heads + 2 * kv,
              absl::StrCat("fused Q, K and V of ", model.heads, " heads and ",
                           kv, " kv heads")};
  }
}

// The likeliest reason that rows are not the expected ones.
std::string Cure(const ParamSpec& spec, Role role, const RowGeometry& geometry,
                 const ModelShape& model) {
  const int64_t heads = ExpectedOf(role, model).heads;
  const int64_t dim = HeadDim(model);
  const int64_t rows = geometry.rows;
  if (geometry.row_elements == heads * dim &&
      (model.hidden <= 0 || rows == model.hidden)) {
    return spec.output_is_last
               ? "it looks stored [out, in]: clear ParamSpec::output_is_last"
               : "it looks stored [in, out]: set ParamSpec::output_is_last";
  }
  if (role == Role::kKey && model.kv_heads == 0 && rows % dim == 0 &&
      model.heads % (rows / dim) == 0) {
    return absl::StrCat("set ModelShape::kv_heads to ", rows / dim,
                        " if its heads have ", dim, " rows");
  }
  if (rows % heads == 0) {
    return absl::StrCat("set ModelShape::head_dim to ", rows / heads,
                        " if the model has that many heads");
  }
  return "set ModelShape::heads, kv_heads and head_dim as the model has them";
}

// Keys of a model whose head_dim is certain tell how many kv heads there are.
bool TellsKvHeads(Role role, const RowGeometry& geometry,
                  const ModelShape& model) {
  if (role != Role::kKey || model.kv_heads > 0 || model.head_dim <= 0 ||
      geometry.rows % model.head_dim != 0) {
    return false;
  }
  const bool transposed =
      geometry.rows == model.hidden && geometry.row_elements != model.hidden;
  return !transposed && model.heads % (geometry.rows / model.head_dim) == 0;
}

absl::Status CheckRows(const ParamSpec& spec, Role role,
                       const RowGeometry& geometry, const ModelShape& model) {
  const Expected expected = ExpectedOf(role, model);
  const int64_t dim = HeadDim(model);
  if (geometry.rows == expected.heads * dim ||
      TellsKvHeads(role, geometry, model)) {
    return absl::OkStatus();
  }
  return Refuse(
      spec, absl::StrCat(
                "has ", geometry.rows, " output rows, but ", expected.text,
                " with head_dim ", dim,
                model.head_dim > 0 ? "" : " (hidden / heads)", " have ",
                expected.heads * dim, "; ", Cure(spec, role, geometry, model),
                ", or, if it is of a tower with other heads, give it a "
                "ParamSpec::rule as BlockRule::Heads(rows of one head)"));
}

// Rows may fit by chance: in another tower, or the wrong way round.
void WarnOfInputs(const ParamSpec& spec, const NameClass& found,
                  const RowGeometry& geometry, const ModelShape& model,
                  BlockChoice* choice) {
  if (found.hidden != HiddenSide::kInput || model.hidden <= 0 ||
      geometry.row_elements == model.hidden) {
    return;
  }
  choice->warnings.push_back(absl::StrCat(
      Describe(spec), ": has ", geometry.row_elements,
      " inputs where hidden is ", model.hidden,
      ", with ParamSpec::output_is_last ",
      spec.output_is_last ? "set" : "not set",
      "; if that is right, as in another tower, give it a ParamSpec::rule"));
}

BlockSegment ValueRows(int64_t rows, bool whole) {
  if (whole) return {rows, rows, BlockKind::kWhole};
  return {rows, 1, BlockKind::kRow};
}

BlockRule Thirds(const ModelShape& model, bool whole_value) {
  const int64_t dim = HeadDim(model);
  const int64_t kv_rows = KvHeads(model) * dim;
  return BlockRule::Fused({{model.heads * dim, dim, BlockKind::kHead},
                           {kv_rows, dim, BlockKind::kHead},
                           ValueRows(kv_rows, whole_value)});
}

BlockRule KvGroups(const ModelShape& model, bool whole_value) {
  const int64_t dim = HeadDim(model);
  const int64_t query_rows = model.heads / KvHeads(model) * dim;
  return BlockRule::Fused({{query_rows, dim, BlockKind::kHead},
                           {dim, dim, BlockKind::kHead},
                           ValueRows(dim, whole_value)});
}

std::string Text(const BlockRule& fused) {
  std::string text = "BlockRule::Fused({";
  for (const BlockSegment& segment : fused.segments) {
    absl::StrAppend(&text, text.back() == '{' ? "" : ", ", "{", segment.rows,
                    ", ", segment.rows_per_block, "}");
  }
  return text + "})";
}

absl::StatusOr<BlockRule> FusedRule(const ParamSpec& spec,
                                    const NameClass& found,
                                    const PlanOptions& options,
                                    BlockChoice* choice) {
  const ModelShape& model = options.model;
  const bool whole = options.value_blocks == ValueBlocks::kWhole;
  const int64_t kv = KvHeads(model);
  if (found.order == RowOrder::kThirds) return Thirds(model, whole);
  if (found.order == RowOrder::kKvGroupsLikely && kv > 1 && kv < model.heads) {
    choice->warnings.push_back(absl::StrCat(
        Describe(spec),
        ": its rows are taken kv head by kv head, as Megatron "
        "stores them; if they are all Q, all K, all V, as ChatGLM's, give it ",
        Text(Thirds(model, whole))));
  }
  if (whole) {
    choice->warnings.push_back(
        absl::StrCat(Describe(spec),
                     ": its value rows lie between query and key rows, so "
                     "each kv head's are one block, not all of them"));
  }
  return KvGroups(model, whole);
}

}  // namespace

absl::StatusOr<BlockRule> HeadRuleFor(const ParamSpec& spec,
                                      const NameClass& found,
                                      const PlanOptions& options,
                                      BlockChoice* choice) {
  const ModelShape& model = options.model;
  if (found.order == RowOrder::kMlaKeyValue) {
    return Refuse(spec,
                  "holds keys and values of latent attention, whose rows per "
                  "head ModelShape does not tell; give it the rule "
                  "BlockRule::Fused({{qk_nope_head_dim, qk_nope_head_dim}, "
                  "{v_head_dim, 1}})");
  }
  ZEROMINI_ASSIGN_OR_RETURN(const int64_t dim, NeedHeadDim(spec, model));
  ZEROMINI_ASSIGN_OR_RETURN(const RowGeometry geometry, GeometryOf(spec));
  const bool fused = found.role == Role::kFusedQkv;
  if (fused && model.heads <= 0) {
    return Refuse(spec,
                  "its rows are fused Q, K and V, but the number of heads is "
                  "unknown; set ModelShape::heads, or give it a "
                  "ParamSpec::rule");
  }
  if (ExpectedOf(found.role, model).heads > 0) {
    ZEROMINI_RETURN_IF_ERROR(CheckRows(spec, found.role, geometry, model));
  }
  WarnOfInputs(spec, found, geometry, model, choice);
  return fused ? FusedRule(spec, found, options, choice)
               : BlockRule::Heads(dim);
}

bool HasRowsOfKvHeads(const RowGeometry& geometry, const ModelShape& model) {
  const int64_t dim = HeadDim(model);
  return dim > 0 && geometry.rows == KvHeads(model) * dim;
}

}  // namespace zeromini
