// A configuration drawn from a seed: a model, options, and for each step who
// gives which gradient, in what order, and what else happens. Everything that
// may change a number is drawn; nothing depends on timing.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_CASE_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_CASE_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "support/exact_training.h"
#include "zeromini/optimizer.h"

namespace zeromini {

// The standard distributions differ by library; the same seed must not.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(Mix(seed)) {}

  uint64_t Bits() { return state_ = Mix(state_); }
  int Int(int least, int most) {
    return least + static_cast<int>(Bits() % uint64_t(most - least + 1));
  }
  bool OneIn(int chances) { return Int(1, chances) == 1; }
  template <typename T>
  T Of(std::initializer_list<T> choices) {
    return *(choices.begin() + Int(0, static_cast<int>(choices.size()) - 1));
  }
  template <typename T>
  void Shuffle(std::vector<T>* items) {
    for (size_t i = items->size(); i > 1; --i) {
      std::swap((*items)[i - 1], (*items)[Bits() % i]);
    }
  }

 private:
  uint64_t state_;
};

struct RandomStep {
  StepOptions options;
  bool waits_by_param = false;  // After a step that did not wait.
  uint64_t order_seed = 0;
  // Per parameter, micro-step and rank: whether its gradient is given.
  std::vector<std::vector<std::vector<char>>> given;
  int not_finite = -1;  // A parameter, one of whose elements is.
  int not_finite_rank = 0;
  float not_finite_value = 0;

  // Before the gradients.
  int set_param = -1;
  int set_group = -1;
  ParamGroup group;
  bool broadcast = false;
};

struct RandomCase {
  OptimizerOptions options;
  std::vector<ParamSpec> specs;
  int ranks = 1;
  std::vector<RandomStep> steps;
  bool uses_homes = false;  // Gradients where Optimizer::GradData() says.
  bool caller_streams = false;
  bool walks_forward = false;  // Stage 3.
  uint32_t delays = 0;         // Seed of delayed communication; 0: none.

  int slices() const { return options.expert_slices; }
  int SliceOf(int rank) const { return rank % slices(); }
  bool tied(int p) const { return !specs[p].tied_to.empty(); }
};

namespace internal {

inline ParamSpec RandomMatrix(Dice& dice) {
  const int rows = dice.Int(1, 20);
  const int columns = dice.Int(1, 12);
  switch (dice.Int(0, 7)) {
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

inline ParamSpec RandomSpec(Dice& dice) {
  if (!dice.OneIn(4)) return RandomMatrix(dice);
  return Spec("", {dice.Int(1, 40)},
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

// Ties `tie` to an earlier parameter that can own it, if there is one.
inline void Tie(const std::vector<ParamSpec>& specs, Dice& dice,
                ParamSpec* tie) {
  const ParamSpec& owner = specs[dice.Int(0, int(specs.size()) - 1)];
  if (owner.expert || owner.padding_rows > 0 || owner.output_is_last) return;
  const std::string name = tie->name;
  const int layer = tie->layer;
  *tie = owner;
  tie->name = name;
  tie->layer = layer;
  tie->tied_to = owner.tied_to.empty() ? owner.name : owner.tied_to;
}

inline void DrawModel(Dice& dice, RandomCase* c) {
  const std::vector<DType> dtypes = RandomDTypes(dice);
  const int layers = dice.Int(0, 3);
  for (int layer = -1; layer <= layers; ++layer) {
    const int tensors = dice.Int(layer == layers ? 0 : 1, 4);
    for (int t = 0; t < tensors; ++t) {
      ParamSpec spec = RandomSpec(dice);
      spec.layer = layer == layers ? -1 : layer;
      spec.name = absl::StrCat("layer", layer, ".t", t);
      spec.dtype = dtypes[dice.Bits() % dtypes.size()];
      spec.group = dice.Int(0, int(c->options.groups.size()) - 1);
      spec.frozen = dice.OneIn(10);
      spec.expert = c->slices() > 1 && dice.OneIn(2);
      if (dice.OneIn(6) && !c->specs.empty()) Tie(c->specs, dice, &spec);
      c->specs.push_back(std::move(spec));
    }
  }
  c->specs[0].frozen = false;  // One at least is trained.
  for (ParamSpec& spec : c->specs) {
    if (spec.tied_to == c->specs[0].name) spec.frozen = false;
  }
}

inline void DrawGroups(Dice& dice, RandomCase* c) {
  OptimizerOptions& o = c->options;
  const int ranks = c->ranks;
  std::vector<int> divisors;
  for (int d = 1; d <= ranks; ++d) {
    if (ranks % d == 0) divisors.push_back(d);
  }
  if (ranks > 1 && dice.OneIn(3)) {
    o.shard_ranks = divisors[dice.Bits() % divisors.size()];
    std::vector<int> slices;
    for (int s : divisors) {
      if (ranks / s % o.shard_ranks == 0) slices.push_back(s);
    }
    o.expert_slices = slices[dice.Bits() % slices.size()];
  }
}

inline void DrawFormats(Dice& dice, RandomCase* c) {
  OptimizerOptions& o = c->options;
  bool fp16 = false;
  for (const ParamSpec& spec : c->specs) {
    fp16 = fp16 || spec.dtype == DType::kFloat16;
  }
  const MasterFormat none = MasterFormat::kNone, full = MasterFormat::kFloat32;
  o.master = fp16 ? dice.Of({none, full})
                  : dice.Of({none, full, MasterFormat::kRemainder16,
                             MasterFormat::kRemainder8});
  o.state = dice.Of({StateFormat::kFloat32, StateFormat::kFloat32,
                     StateFormat::kBFloat16, StateFormat::kInt8});
  // What is rounded at random is seeded by a parameter's place in the model,
  // which experts do not keep on one rank.
  if (c->slices() > 1) {
    if (o.master == none) o.master = full;
    if (o.state == StateFormat::kBFloat16) o.state = StateFormat::kInt8;
  }
  o.gradient_wire = dice.Of({DType::kFloat32, DType::kBFloat16});
  o.weight_wire = dice.Of({DType::kFloat32, DType::kBFloat16});
}

inline void DrawOptions(Dice& dice, RandomCase* c) {
  OptimizerOptions& o = c->options;
  const Algorithm mini = Algorithm::kAdamMini;
  o.algorithm = dice.Of({mini, mini, Algorithm::kAdamW, Algorithm::kSgd});
  if (dice.OneIn(2)) {
    o.groups.emplace_back();
    o.groups.back().name = "other";
    o.groups.back().weight_decay = 0;
    o.groups.back().beta1 = 0.8;
    if (dice.OneIn(2)) o.groups.back().algorithm = Algorithm::kAdamW;
  }
  o.stage = dice.Int(1, 3);
  o.memory = o.stage == 3 ? MemoryForm::kFlat
                          : dice.Of({MemoryForm::kExternal, MemoryForm::kFlat});
  o.reduction = dice.Of({Reduction::kSum, Reduction::kMean});
  o.micro_steps = dice.Of({1, 1, 2, 3});
  o.max_grad_norm = dice.Of({0.0, 0.0, 0.05, 1e6});
  o.max_grad_value = dice.Of({0.0, 0.0, 0.0, 0.01});
  o.check_finite = !dice.OneIn(4);
  o.non_finite =
      dice.Of({NonFiniteGradients::kError, NonFiniteGradients::kSkip});
  o.skip_above_grad_norm = dice.Of({0.0, 0.0, 0.0, 0.2});
  o.absent_gradients =
      dice.Of({AbsentGradients::kError, AbsentGradients::kSkip});
  o.prefetch = dice.Int(0, 2);
  o.bucket_bytes = dice.Of({0, 0, 100, 700, 2000});
  DrawGroups(dice, c);
}

// Which of a parameter's gradients are given. Stage 3 and experts: all or none.
inline std::vector<std::vector<char>> DrawGiven(Dice& dice, const RandomCase& c,
                                                int p) {
  const OptimizerOptions& o = c.options;
  std::vector<std::vector<char>> given(o.micro_steps,
                                       std::vector<char>(c.ranks, 1));
  const bool kept = o.absent_gradients == AbsentGradients::kError;
  if (!dice.OneIn(kept ? 40 : 5)) return given;
  const bool alike = o.stage == 3 || c.specs[p].expert || dice.OneIn(2);
  for (auto& ranks : given) {
    for (char& rank : ranks) rank = alike ? 0 : char(dice.Int(0, 1));
  }
  return given;
}

inline RandomStep DrawStep(Dice& dice, const RandomCase& c) {
  RandomStep step;
  step.options.learning_rate = dice.Of({0.01, 0.003, 0.02});
  step.options.loss_scale = std::ldexp(1.0, dice.Of({0, 0, 4, 10}));
  step.options.wait = dice.OneIn(2);
  step.waits_by_param = dice.OneIn(2);
  step.order_seed = dice.Bits();
  for (int p = 0; p < int(c.specs.size()); ++p) {
    step.given.push_back(DrawGiven(dice, c, p));
  }
  const int any = dice.Int(0, int(c.specs.size()) - 1);
  if (c.options.check_finite && dice.OneIn(6) && !c.specs[any].frozen &&
      c.specs[any].padding_rows == 0) {
    step.not_finite = any;
    step.not_finite_rank = dice.Int(0, c.ranks - 1);
    step.not_finite_value = dice.Of({NAN, INFINITY, -INFINITY});
  }
  const int other = dice.Int(0, int(c.specs.size()) - 1);
  if (dice.OneIn(5) && !c.tied(other)) step.set_param = other;
  if (dice.OneIn(6)) {
    step.set_group = dice.Int(0, int(c.options.groups.size()) - 1);
    step.group = c.options.groups[step.set_group];
    step.group.weight_decay = dice.Of({0.0, 0.05, 0.2});
    step.group.learning_rate_scale = dice.Of({0.5, 1.0, 2.0});
    step.group.beta2 = dice.Of({0.9, 0.95, 0.99});
  }
  step.broadcast = dice.OneIn(8);
  return step;
}

}  // namespace internal

inline RandomCase DrawCase(uint64_t seed) {
  Dice dice(seed);
  RandomCase c;
  c.ranks = dice.Int(1, 7);
  internal::DrawOptions(dice, &c);
  internal::DrawModel(dice, &c);
  internal::DrawFormats(dice, &c);
  c.uses_homes = dice.OneIn(2);
  c.caller_streams = dice.OneIn(3);
  c.walks_forward = dice.OneIn(2);
  c.delays = dice.OneIn(3) ? uint32_t(dice.Int(1, 1000)) : 0;
  const int steps = dice.Int(2, 5);
  for (int s = 0; s < steps; ++s) {
    c.steps.push_back(internal::DrawStep(dice, c));
  }
  return c;
}

// What a person needs to see beside the seed.
inline std::string Describe(const RandomCase& c) {
  const OptimizerOptions& o = c.options;
  std::string text = absl::StrCat(
      c.ranks, " ranks, ", AlgorithmName(o.algorithm), ", stage ", o.stage,
      o.memory == MemoryForm::kFlat ? ", flat" : ", external", ", shard_ranks ",
      o.shard_ranks, ", slices ", o.expert_slices, ", micro-steps ",
      o.micro_steps, ", master ", MasterFormatName(o.master), ", state ",
      StateFormatName(o.state), ", wires ", DTypeName(o.gradient_wire), " ",
      DTypeName(o.weight_wire), ", clip ", o.max_grad_norm, " ",
      o.max_grad_value, ", skip above ", o.skip_above_grad_norm,
      o.check_finite ? "" : ", unchecked", ", bucket_bytes ", o.bucket_bytes,
      c.uses_homes ? ", homes" : "", c.caller_streams ? ", streams" : "",
      c.delays > 0 ? ", delays" : "", "\n");
  for (const ParamSpec& spec : c.specs) {
    absl::StrAppend(&text, "  ", spec.name, " ", DTypeName(spec.dtype),
                    " rule ", int(spec.rule.kind), spec.frozen ? " frozen" : "",
                    spec.expert ? " expert" : "",
                    spec.tied_to.empty() ? "" : " tied to ", spec.tied_to, " [",
                    Elements(spec), "]\n");
  }
  return text;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_CASE_H_
