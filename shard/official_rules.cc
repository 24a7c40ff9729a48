// Blocks as Adam-mini 1.1.1 names them: substrings of the lower-cased name, in
// its order of priority, and dim*dim/n_heads elements a head
// (zyushun/Adam-mini adam_mini.py:105-131, 241-315).

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "shard/block_rules.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

struct Word {
  const char* text;
  Role role;
};

constexpr Word kHeadWords[] = {
    {"k_proj", Role::kKey}, {"q_proj", Role::kQuery}, {"wq", Role::kQuery},
    {"wk", Role::kKey},     {"query", Role::kQuery},  {"key", Role::kKey}};
constexpr Word kValueWords[] = {
    {"v_proj", Role::kValue}, {"wv", Role::kValue}, {"value", Role::kValue}};
constexpr Word kRowWords[] = {{"embed", Role::kEmbedding},
                              {"embd", Role::kEmbedding},
                              {"wte", Role::kEmbedding},
                              {"lm_head", Role::kOutput},
                              {"output", Role::kOutput},
                              {"final_layer", Role::kOutput},
                              {"feed_forward", Role::kMlp},
                              {"linear", Role::kMlp},
                              {"mlp", Role::kMlp},
                              {"o_proj", Role::kAttentionOutput},
                              {"wo", Role::kAttentionOutput},
                              {"attn.proj", Role::kAttentionOutput}};

const Word* FindWord(const std::string& name, absl::Span<const Word> words) {
  for (const Word& word : words) {
    if (absl::StrContains(name, word.text)) return &word;
  }
  return nullptr;
}

absl::Status Refuse(const ParamSpec& spec, const std::string& why) {
  return absl::InvalidArgumentError(absl::StrCat(Describe(spec), ": ", why));
}

absl::StatusOr<BlockRule> HeadRule(const ParamSpec& spec,
                                   const ModelShape& model,
                                   const RowGeometry& geometry) {
  if (model.hidden <= 0 || model.heads <= 0 ||
      model.hidden * model.hidden % model.heads != 0) {
    return Refuse(spec, absl::StrCat("official naming needs dim and n_heads "
                                     "with dim*dim divisible by n_heads, got ",
                                     model.hidden, " and ", model.heads));
  }
  const int64_t head = model.hidden * model.hidden / model.heads;
  const int64_t elements = geometry.rows * geometry.row_elements;
  if (elements % head != 0 || head % geometry.row_elements != 0) {
    return Refuse(
        spec,
        absl::StrCat("official naming takes ", head,
                     " elements a head (dim*dim/n_heads); ", geometry.rows,
                     " rows of ", geometry.row_elements, " do not divide so"));
  }
  return BlockRule::Heads(head / geometry.row_elements);
}

absl::StatusOr<BlockRule> RuleFor(const std::string& name,
                                  const ParamSpec& spec,
                                  const PlanOptions& options, Role* role) {
  ZEROMINI_ASSIGN_OR_RETURN(const RowGeometry geometry, GeometryOf(spec));
  if (*role == Role::kBias) return BlockRule::Element();
  if (const Word* word = FindWord(name, kHeadWords)) {
    *role = word->role;
    return HeadRule(spec, options.model, geometry);
  }
  const Word* word = FindWord(name, kRowWords);
  if (const Word* value = FindWord(name, kValueWords)) {
    *role = value->role;
    if (options.value_blocks == ValueBlocks::kRows) word = value;
  } else if (word != nullptr) {
    *role = word->role;
  }
  if (word == nullptr) return BlockRule::Whole();
  const size_t dims = spec.shape.size() - (spec.slices > 1 ? 1 : 0);
  if (dims != 2) {
    return Refuse(spec, absl::StrCat("official naming takes \"", word->text,
                                     "\" for a matrix and fails on ", dims,
                                     " dimensions; give it a BlockRule"));
  }
  return BlockRule::Rows();
}

}  // namespace

absl::StatusOr<BlockChoice> ChooseAsOfficial(const PlanOptions& options,
                                             ParamSpec& spec) {
  const std::string name = absl::AsciiStrToLower(spec.name);
  BlockChoice choice;
  choice.chosen_by = "official";
  const bool bias = absl::StrContains(name, "bias");
  const bool norm =
      absl::StrContains(name, "norm") || absl::StrContains(name, "ln");
  choice.decays = !bias && !norm;
  if (bias) {
    choice.role = Role::kBias;
  } else if (norm) {
    choice.role = Role::kNorm;
  }
  // The official code knows dimension 0 only.
  if (spec.rule.kind == BlockRule::Kind::kAuto) spec.output_is_last = false;
  choice.rule = BlockRule::Element();
  if (options.algorithm == Algorithm::kAdamMini) {
    ZEROMINI_ASSIGN_OR_RETURN(choice.rule,
                              RuleFor(name, spec, options, &choice.role));
  }
  return choice;
}

}  // namespace zeromini
