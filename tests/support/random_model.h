// Draws the parameters of a random case.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_MODEL_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_MODEL_H_

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "support/exact_training.h"
#include "support/random_case.h"
#include "zeromini/optimizer.h"

namespace zeromini {
namespace internal {

// As many columns as others of the model have, or any number.
inline ParamSpec RandomMatrix(Dice& dice, bool tiny, int hidden) {
  const int rows = dice.Int(1, tiny ? 6 : 24);
  const int columns = dice.OneIn(3) ? dice.Int(1, tiny ? 3 : 12) : hidden;
  switch (dice.Int(0, tiny ? 6 : 7)) {
    case 0: {
      ParamSpec spec = Spec("", {rows, columns}, BlockRule::Rows(), -1);
      if (dice.OneIn(3)) spec.padding_rows = dice.Int(0, rows - 1);
      return spec;
    }
    case 1: {
      const int head = dice.Int(1, 4);
      return Spec("", {head * dice.Int(1, 6), columns}, BlockRule::Heads(head),
                  -1);
    }
    case 2:
      return Spec("", {rows, columns}, BlockRule::Whole(), -1);
    case 3:
      return Spec("", {rows, columns}, BlockRule::Element(), -1);
    case 4: {
      ParamSpec spec = Spec("", {columns, rows}, BlockRule::Rows(), -1);
      spec.output_is_last = true;
      return spec;
    }
    case 5: {
      const int q = dice.Int(1, 3), v = dice.Int(1, 2);
      const int repeats = dice.Int(1, 3);
      return Spec("", {repeats * (2 * q + v), columns},
                  BlockRule::Fused({{2 * q, q}, {v, 1}}), -1);
    }
    case 6: {
      const int slices = dice.Int(2, 4);
      ParamSpec spec =
          Spec("", {slices, rows, columns},
               dice.OneIn(2) ? BlockRule::Whole() : BlockRule::Rows(), -1);
      spec.slices = slices;
      return spec;
    }
    default:  // A block that several ranks must share.
      return Spec("", {dice.Int(30, 80), 8}, BlockRule::Whole(), -1);
  }
}

// Averages over columns, of a matrix of any kind.
inline ParamSpec RandomColumns(Dice& dice, bool tiny, int hidden) {
  const bool tall = !tiny && dice.OneIn(12);  // Rows in groups.
  if (tall) {
    ParamSpec spec = Spec("", {dice.Of({512, 513, 1032}), dice.Int(1, 3)},
                          BlockRule::Factored(), -1);
    if (dice.OneIn(3)) spec.padding_rows = dice.Int(0, 30);
    return spec;
  }
  ParamSpec spec = RandomMatrix(dice, tiny, hidden);
  if (spec.rule.kind == BlockRule::Kind::kFused) {
    for (BlockSegment& segment : spec.rule.segments) {
      if (dice.OneIn(3)) continue;
      segment.rows_per_block = 1;
      segment.form =
          dice.OneIn(3) ? MomentForm::kColumns : MomentForm::kFactored;
    }
    return spec;
  }
  spec.rule = dice.OneIn(3) ? BlockRule::Columns() : BlockRule::Factored();
  return spec;
}

// What the tables of names know, for SecondMoment::kFactored to choose from.
inline ParamSpec RandomNamed(Dice& dice, const RandomCase& c, bool tiny) {
  const int rows = dice.Int(1, tiny ? 6 : 24);
  const int columns = dice.Int(1, tiny ? 3 : 12);
  const ModelShape& model = c.options.model;
  const int fused = int((model.heads + 2 * model.kv_heads) * model.head_dim);
  const auto named = [](std::string name, std::vector<int64_t> shape) {
    return Spec(std::move(name), std::move(shape), BlockRule(), -1);
  };
  switch (dice.Int(0, 9)) {
    case 0:
      return named(".self_attn.qkv_proj.weight", {fused, columns});
    case 1:
      return named(".attention.query_key_value.weight", {fused, columns});
    case 2:
      return named(".self_attn.q_proj.weight", {rows, columns});
    case 3:
      return named(".self_attn.v_proj.weight", {rows, columns});
    case 4:
      return named(".mlp.down_proj.weight", {rows, columns});
    case 5:
      return named(".mlp.experts.gate_up_proj",
                   {dice.Int(2, 4), rows, columns});
    case 6:
      return named(".embed_tokens.weight", {rows, columns});
    case 7:
      return named(".input_layernorm.weight", {rows});
    case 8:
      return named(".self_attn.q_proj.bias", {rows});
    default:
      return named(".unheard_of", {rows, columns});
  }
}

// Several tiles and groups of scales in a row.
inline ParamSpec RandomWide(Dice& dice) {
  const BlockRule rule =
      dice.Of({BlockRule::Rows(), BlockRule::Whole(), BlockRule::Element(),
               BlockRule::Factored(), BlockRule::Columns()});
  return Spec("", {dice.Int(1, 16), dice.Int(100, 1400)}, rule, -1);
}

inline ParamSpec RandomSpec(Dice& dice, bool tiny, int hidden) {
  if (!tiny && dice.OneIn(40)) return RandomWide(dice);
  if (dice.OneIn(4)) return RandomColumns(dice, tiny, hidden);
  if (!dice.OneIn(tiny ? 2 : 4)) return RandomMatrix(dice, tiny, hidden);
  return Spec("", {dice.OneIn(3) ? 1 : dice.Int(1, tiny ? 5 : 40)},
              dice.OneIn(2) ? BlockRule::Whole() : BlockRule::Element(), -1);
}

inline std::vector<DType> RandomDTypes(Dice& dice) {
  const DType f = DType::kFloat32, b = DType::kBFloat16, h = DType::kFloat16;
  switch (dice.Int(0, 5)) {
    case 0:
    case 1:
      return {f};
    case 2:
      return {b};
    case 3:
      return {f, b};
    case 4:
      return {f, h};
    default:
      return {f, b, h};
  }
}

// More would be too many bits for bf16, see GradientOf().
constexpr int kMostSharers = 6;

// Of the parameter whose storage it is, through a chain of ties.
inline std::string OwnerName(const std::vector<ParamSpec>& specs,
                             const ParamSpec& spec) {
  std::string name = spec.tied_to.empty() ? spec.name : spec.tied_to;
  for (size_t p = specs.size(); p-- > 0;) {
    const bool tied = !specs[p].tied_to.empty();
    if (specs[p].name == name && tied) name = specs[p].tied_to;
  }
  return name;
}

// Ties `tie` to an earlier parameter, or to what that is tied to.
inline void Tie(const std::vector<ParamSpec>& specs, Dice& dice,
                ParamSpec* tie) {
  const ParamSpec& other = specs[dice.Int(0, int(specs.size()) - 1)];
  const std::string owner = OwnerName(specs, other);
  const auto shares = [&](const ParamSpec& spec) {
    return OwnerName(specs, spec) == owner;
  };
  if (std::count_if(specs.begin(), specs.end(), shares) >= kMostSharers) return;
  ParamSpec tied = other;
  tied.name = tie->name;
  tied.layer = tie->layer;
  tied.layer_set = tie->layer_set;
  tied.tied_to = dice.OneIn(2) ? owner : other.name;
  *tie = std::move(tied);
}

// Some join the second group by their names, if any can.
inline void JoinByPattern(RandomCase* c) {
  std::vector<HyperGroup>& groups = c->options.hyper_groups;
  const auto joins = [](const ParamSpec& spec) {
    return spec.tied_to.empty() && absl::StrContains(spec.name, ".t1");
  };
  if (groups.size() < 2 ||
      std::none_of(c->specs.begin(), c->specs.end(), joins)) {
    return;
  }
  groups[1].patterns = {"layer*.t1*"};
  for (ParamSpec& spec : c->specs) spec.hyper_group = -1;
}

inline void DrawModel(Dice& dice, RandomCase* c) {
  const std::vector<DType> dtypes = RandomDTypes(dice);
  const bool tiny = c->ranks > 7 || dice.OneIn(5);
  const int hidden = dice.Int(1, tiny ? 3 : 12);
  const int layers = dice.Int(0, tiny ? 1 : 3);
  const int ties = dice.Of({6, 6, 3, 2});
  const bool own_groups = c->options.stage == 3 && dice.OneIn(3);
  for (int layer = -1; layer <= layers; ++layer) {
    const int tensors = dice.Int(layer == layers ? 0 : 1, 5);
    for (int t = 0; t < tensors; ++t) {
      const bool named =
          c->options.second_moment == SecondMoment::kFactored && dice.OneIn(2);
      ParamSpec spec =
          named ? RandomNamed(dice, *c, tiny) : RandomSpec(dice, tiny, hidden);
      spec.layer = layer == layers ? -1 : layer;
      spec.name = absl::StrCat("layer", layer, ".t", t, spec.name);
      spec.dtype = dtypes[dice.Bits() % dtypes.size()];
      spec.hyper_group = dice.Int(0, int(c->options.hyper_groups.size()) - 1);
      spec.frozen = dice.OneIn(10);
      // Experts of the one rank have other names, so none a table knows.
      spec.expert = !named && c->slices() > 1 && dice.OneIn(2);
      if (own_groups) spec.layer_set = dice.Of({-1, 0, 1, 7, 100});
      if (dice.OneIn(ties) && !c->specs.empty()) Tie(c->specs, dice, &spec);
      c->specs.push_back(std::move(spec));
    }
  }
  c->specs[0].frozen = false;  // One at least is trained.
  for (ParamSpec& spec : c->specs) {
    if (OwnerName(c->specs, spec) == c->specs[0].name) spec.frozen = false;
  }
  if (dice.OneIn(3)) JoinByPattern(c);
}

}  // namespace internal
}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_MODEL_H_
