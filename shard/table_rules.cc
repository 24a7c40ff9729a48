// Blocks by the name tables and explicit head dimensions.

#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "shard/block_rules.h"
#include "shard/head_rules.h"
#include "shard/name_tables.h"
#include "shard/orientation.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

absl::Status Refuse(const ParamSpec& spec, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(spec), ": ", why));
}

// Of a tensor with an MLP's name and three dimensions.
bool StacksExperts(const ParamSpec& spec, const ModelShape& model) {
  return model.hidden <= 0 || spec.shape[1] == model.hidden ||
         spec.shape[2] == model.hidden ||
         absl::StrContains(absl::AsciiStrToLower(spec.name), "expert");
}

void SetSlices(const NameClass& found, const ModelShape& model,
               ParamSpec& spec) {
  if (spec.slices != 1 || spec.shape.empty()) return;
  const int dims = static_cast<int>(spec.shape.size());
  const bool stacked = found.stackable && dims == found.natural_dims + 1;
  const bool experts =
      found.role == Role::kMlp && dims == 3 && StacksExperts(spec, model);
  if (stacked || experts) spec.slices = spec.shape[0];
}

bool IsVectorRole(Role role) {
  return role == Role::kNorm || role == Role::kBias;
}

// Rows of dimension 0 would be filters, or layers, or experts.
absl::Status CheckDimensions(const ParamSpec& spec, const NameClass& found,
                             SecondMoment form) {
  const size_t dims = spec.shape.size() - (spec.slices > 1 ? 1 : 0);
  const bool convolution = absl::string_view(found.table) == kConvolution;
  if (dims <= 2 || convolution || IsVectorRole(found.role)) {
    return absl::OkStatus();
  }
  if (spec.slices > 1) {
    return Refuse(
        spec, absl::StrCat("each of its ", spec.slices, " slices has ", dims,
                           " dimensions; give it a ParamSpec::rule"));
  }
  if (spec.shape[0] == 1) {
    return Refuse(
        spec,
        absl::StrCat("has ", dims,
                     " dimensions, the first of which stacks nothing: leave it "
                     "out of ParamSpec::shape, or set ParamSpec::rule to "
                     "BlockRule::Whole() for one scalar or to "
                     "BlockRule::Element() for one per element"));
  }
  return Refuse(
      spec,
      absl::StrCat(
          "has ", dims,
          " dimensions: if dimension 0 stacks matrices "
          "(experts, layers), set ParamSpec::slices to ",
          spec.shape[0],
          "; if it is the output, as of a convolution, set ParamSpec::rule "
          "to BlockRule::",
          form == SecondMoment::kFactored ? "Factored()" : "Rows()"));
}

std::string DefaultScalars(const ParamSpec& spec, bool matrix, bool factored) {
  const std::string each =
      spec.slices > 1 ? absl::StrCat("each of the ", spec.slices, " slices")
                      : "";
  if (factored) {
    return matrix ? absl::StrCat("averages over rows and over columns",
                                 each.empty() ? "" : " of ", each,
                                 ", with weight decay")
                  : "a second moment per element, no weight decay";
  }
  if (!matrix) {
    return absl::StrCat("one scalar for ", each.empty() ? "the tensor" : each,
                        ", no weight decay");
  }
  const char* line = spec.output_is_last ? "column" : "row";
  return absl::StrCat("one scalar per ", line, each.empty() ? "" : " of ", each,
                      ", with weight decay");
}

void ChooseDefault(const ParamSpec& spec, bool matrix, bool factored,
                   BlockChoice* choice) {
  choice->chosen_by = "default";
  choice->rule = matrix ? BlockRule::Rows() : BlockRule::Whole();
  choice->decays = matrix;
  choice->warnings.push_back(
      absl::StrCat(Describe(spec), ": no name table knows it; chose ",
                   DefaultScalars(spec, matrix, factored),
                   "; set ParamSpec::rule to say otherwise"));
}

absl::StatusOr<BlockRule> RuleFor(const ParamSpec& spec, const NameClass& found,
                                  const PlanOptions& options,
                                  BlockChoice* choice) {
  // Takes a matrix as it is, whatever its rows are.
  const bool factored = options.second_moment == SecondMoment::kFactored;
  switch (found.role) {
    case Role::kBias:
      return BlockRule::Element();
    case Role::kNorm:
      return BlockRule::Whole();
    case Role::kQuery:
    case Role::kKey:
      if (factored) return BlockRule::Factored();
      return HeadRuleFor(spec, found, options, choice);
    case Role::kFusedQkv:
      if (factored && found.order == RowOrder::kMlaKeyValue) {
        return BlockRule::Factored();
      }
      return HeadRuleFor(spec, found, options, choice);
    default:
      break;
  }
  if (factored) return BlockRule::Factored();
  ZEROMINI_RETURN_IF_ERROR(CheckOrientation(spec, found, options.model));
  const bool whole =
      found.role == Role::kValue && options.value_blocks == ValueBlocks::kWhole;
  return whole ? BlockRule::Whole() : BlockRule::Rows();
}

}  // namespace

absl::StatusOr<BlockChoice> ChooseByTables(const PlanOptions& options,
                                           ParamSpec& spec) {
  int dims = static_cast<int>(spec.shape.size());
  const NameClass found =
      ClassifyName(spec.name, spec.slices > 1 ? dims - 1 : dims);
  SetSlices(found, options.model, spec);
  const bool adam_mini = options.algorithm == Algorithm::kAdamMini;
  if (adam_mini) {
    ZEROMINI_RETURN_IF_ERROR(
        CheckDimensions(spec, found, options.second_moment));
  }
  ZEROMINI_ASSIGN_OR_RETURN(const RowGeometry geometry, GeometryOf(spec));
  BlockChoice choice;
  choice.role = found.role;
  choice.chosen_by = found.table;
  choice.decays = !IsVectorRole(found.role);
  if (!found.known() || (!geometry.matrix && !IsVectorRole(found.role))) {
    choice.role = Role::kOther;
    ChooseDefault(spec, geometry.matrix,
                  options.second_moment == SecondMoment::kFactored, &choice);
  } else if (adam_mini) {
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
