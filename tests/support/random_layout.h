// A model and planner options drawn from a seed; tensors have no data.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_LAYOUT_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "shard/planner.h"
#include "tests/support/dice.h"

namespace zeromini {

struct RandomLayout {
  std::vector<ParamSpec> specs;
  PlanOptions options;
  bool projects = false;  // Some matrices have units of a method.
};

inline std::string Describe(const RandomLayout& c) {
  const PlanOptions& o = c.options;
  std::string text = absl::StrCat(
      o.ranks, " ranks, ", AlgorithmName(o.algorithm), ", stage ", o.stage,
      o.memory == MemoryForm::kFlat ? ", flat" : ", external",
      o.blocks == BlockCuts::kSplitAtCuts ? ", split" : ", whole",
      o.bucketing == Bucketing::kByLayer ? ", by layer" : "", ", bucket_bytes ",
      o.bucket_bytes, ", budget ", o.buffer_budget_bytes, ", copy_cost ",
      o.copy_cost, ", collective_cost_bytes ", o.collective_cost_bytes,
      c.projects ? ", projects" : "", "\n");
  for (const ParamSpec& spec : c.specs) {
    absl::StrAppend(&text, "  ", spec.name, " ", DTypeName(spec.dtype),
                    " rule ", int(spec.rule.kind), "/",
                    spec.rule.rows_per_head);
    for (const int64_t size : spec.shape) absl::StrAppend(&text, " ", size);
    absl::StrAppend(&text, spec.output_is_last ? " transposed" : "",
                    spec.slices > 1 ? " stacked" : "",
                    spec.frozen ? " frozen" : "", spec.expert ? " expert" : "",
                    spec.tied_to.empty() ? "" : " tied to ", spec.tied_to,
                    "\n");
  }
  return text;
}

namespace internal {

// Sizes that a model's tensors share, as those of real ones do.
struct RandomSizes {
  int64_t hidden = 1;
  int64_t wide = 1;
  int64_t head = 1;
  int64_t most_rows = 1;
};

inline RandomSizes DrawSizes(Dice& dice) {
  RandomSizes sizes;
  sizes.hidden = dice.Of({1, 2, 3, 8, 12, 40, 64});
  sizes.wide = sizes.hidden * dice.Of({1, 2, 3, 4});
  sizes.head = dice.Of({1, 2, 4, 5, 16});
  sizes.most_rows = dice.Of({3, 20, 100, 1000});
  return sizes;
}

inline ParamSpec DrawTensor(Dice& dice, const RandomSizes& sizes) {
  ParamSpec spec;
  const int64_t rows = dice.Int(1, int(sizes.most_rows));
  const int64_t columns = dice.OneIn(5)   ? dice.Int(1, 50)
                          : dice.OneIn(3) ? sizes.wide
                                          : sizes.hidden;
  const int64_t heads = 1 + rows / sizes.head;
  spec.shape = {rows, columns};
  switch (dice.Int(0, 8)) {
    case 0:
      spec.shape = {dice.OneIn(2) ? sizes.hidden : rows};
      spec.rule = dice.OneIn(2) ? BlockRule::Whole() : BlockRule::Element();
      break;
    case 1:
    case 2:
      spec.shape = {heads * sizes.head, columns};
      spec.rule = BlockRule::Heads(sizes.head);
      break;
    case 3:
      spec.rule = BlockRule::Whole();
      break;
    case 4: {
      const int64_t v = dice.Int(1, 2) * sizes.head;
      spec.shape = {dice.Int(1, 4) * (2 * sizes.head + v), columns};
      spec.rule = BlockRule::Fused({{2 * sizes.head, sizes.head}, {v, 1}});
      break;
    }
    case 5:
      spec.slices = dice.Int(2, 6);
      spec.shape = {spec.slices, rows, columns};
      spec.rule = dice.OneIn(2) ? BlockRule::Whole() : BlockRule::Rows();
      break;
    case 6:
      spec.rule = BlockRule::Element();
      break;
    default:
      spec.rule = BlockRule::Rows();
  }
  if (spec.shape.size() > 1 && dice.OneIn(4)) {
    spec.rule = dice.OneIn(3) ? BlockRule::Columns() : BlockRule::Factored();
  }
  spec.output_is_last = spec.shape.size() > 1 && dice.OneIn(12) &&
                        spec.rule.kind != BlockRule::Kind::kHeads &&
                        spec.rule.kind != BlockRule::Kind::kFused;
  return spec;
}

inline void DrawPlanOptions(Dice& dice, PlanOptions* o) {
  const Algorithm mini = Algorithm::kAdamMini;
  o->algorithm =
      dice.Of({mini, mini, mini, Algorithm::kAdamW, Algorithm::kSgd});
  if (dice.OneIn(3)) o->group_algorithms = {std::nullopt, Algorithm::kAdamW};
  o->ranks = dice.OneIn(3) ? dice.Int(1, 600) : dice.Int(1, 16);
  o->replicas = dice.Of({1, 1, 1, 2, 3});
  o->stage = dice.Int(1, 3);
  o->memory = dice.Of({MemoryForm::kExternal, MemoryForm::kFlat});
  o->blocks =
      dice.Of({BlockCuts::kWhole, BlockCuts::kWhole, BlockCuts::kSplitAtCuts});
  o->bucketing = dice.Of({Bucketing::kCheapest, Bucketing::kCheapest,
                          Bucketing::kCheapest, Bucketing::kByLayer});
  o->bucket_bytes = dice.Of({0, 0, 4, 100, 700, 5000, 60'000, 1 << 26});
  o->buffer_budget_bytes =
      dice.Of({int64_t{0}, int64_t{1}, int64_t{40}, int64_t{1000},
               int64_t{10'000}, int64_t{1} << 20, kNoBufferBudget});
  o->copy_cost = dice.Of({0.0, 0.125, 0.125, 100.0});
  o->collective_cost_bytes = dice.Of({0, 0, 30, 128 << 10});
}

// Of `specs`, one that is its own owner.
inline void TieToAny(Dice& dice, const std::vector<ParamSpec>& specs,
                     ParamSpec* spec) {
  const ParamSpec& owner = specs[dice.Int(0, int(specs.size()) - 1)];
  if (!owner.tied_to.empty()) return;
  ParamSpec tied = owner;
  tied.name = spec->name;
  tied.layer = spec->layer;
  tied.layer_set = spec->layer_set;
  tied.tied_to = owner.name;
  *spec = tied;
}

}  // namespace internal

inline RandomLayout DrawLayout(uint64_t seed) {
  Dice dice(seed);
  RandomLayout c;
  internal::DrawPlanOptions(dice, &c.options);
  c.projects = dice.OneIn(6);
  const internal::RandomSizes sizes = internal::DrawSizes(dice);
  const int layers = dice.Int(0, 5);
  const bool alike = dice.OneIn(2);  // Layers, as in most models.
  const bool own_sets = dice.OneIn(4);
  const int mixed = dice.Of({100, 100, 4, 2});  // One in so many is bf16.
  const int experts = dice.Of({100, 3});
  const int ties = dice.Of({100, 8});
  std::vector<ParamSpec> layer_tensors;
  for (int layer = -1; layer <= layers; ++layer) {
    const bool in_model = layer >= 0 && layer < layers;
    std::vector<ParamSpec> tensors;
    if (in_model && alike) tensors = layer_tensors;
    if (tensors.empty()) {
      for (int t = dice.Int(1, in_model ? 5 : 3); t > 0; --t) {
        tensors.push_back(internal::DrawTensor(dice, sizes));
        ParamSpec& spec = tensors.back();
        spec.dtype = dice.OneIn(mixed) ? DType::kBFloat16 : DType::kFloat32;
        spec.hyper_group = dice.Int(0, 1);
        spec.expert = dice.OneIn(experts);
      }
    }
    if (in_model) layer_tensors = tensors;
    for (size_t t = 0; t < tensors.size(); ++t) {
      ParamSpec spec = tensors[t];
      spec.name = absl::StrCat("part", layer, ".t", t);
      if (in_model) spec.layer = layer;
      spec.frozen = dice.OneIn(12);
      if (own_sets) spec.layer_set = dice.Of({-2, -1, 0, 1, 7});
      if (dice.OneIn(ties) && !c.specs.empty()) {
        internal::TieToAny(dice, c.specs, &spec);
      }
      c.specs.push_back(std::move(spec));
    }
  }
  return c;
}

// A projection of some matrices, as the method of RandomLayout::projects.
inline std::vector<UnitSegment> ProjectedUnits(const PlannedParam& param) {
  if (param.shape.size() < 2 || param.name.back() % 2 == 0) return {};
  const int64_t rows = param.transposed ? param.shape.back()
                                        : param.shape[param.shape.size() - 2];
  return {{rows, rows, 1 + param.row_elements / 2, 1 + param.row_elements / 3}};
}

inline absl::StatusOr<Plan> PlanOf(const RandomLayout& c) {
  if (!c.projects) return MakePlan(c.specs, c.options);
  return MakePlanWithUnits(c.specs, c.options, ProjectedUnits);
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_LAYOUT_H_
