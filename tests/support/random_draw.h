// Draws a RandomCase from a seed.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_DRAW_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_DRAW_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "support/exact_training.h"
#include "support/random_case.h"
#include "support/random_model.h"
#include "zeromini/optimizer.h"

namespace zeromini {
namespace internal {

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

// With what models of this size cost, starting collectives would decide alone.
// Of a hundred cases about 50 have tensors in several buckets, 20 blocks that
// buckets share, 20 junctions.
inline void DrawLayout(Dice& dice, RandomCase* c) {
  OptimizerOptions& o = c->options;
  o.bucketing = dice.OneIn(16) ? Bucketing::kByLayer : Bucketing::kCheapest;
  o.bucket_bytes = dice.Of({0, 4, 50, 100, 200, 400, 700, 2000});
  // A small one would be too small for gradients in any order.
  o.buffer_budget_bytes = dice.OneIn(4) ? kNoBufferBudget : 0;
  const BlockCuts whole = BlockCuts::kWhole, split = BlockCuts::kSplitAtCuts;
  o.blocks = dice.Of({whole, whole, split, split, split});
  o.copy_cost = dice.Of({0.0, 0.125, 100.0});
  o.collective_cost_bytes = dice.Of({0, 0, 0, 0, 0, 0, 30, 128 << 10});
}

inline void DrawOptions(Dice& dice, RandomCase* c) {
  OptimizerOptions& o = c->options;
  const Algorithm mini = Algorithm::kAdamMini;
  o.algorithm =
      dice.Of({mini, mini, mini, mini, Algorithm::kAdamW, Algorithm::kSgd});
  if (dice.OneIn(2)) {
    o.hyper_groups.emplace_back();
    o.hyper_groups.back().name = "other";
    o.hyper_groups.back().weight_decay = 0;
    o.hyper_groups.back().beta1 = 0.8;
    if (dice.OneIn(2)) o.hyper_groups.back().algorithm = Algorithm::kAdamW;
  }
  o.stage = dice.Int(1, 3);
  o.memory = o.stage == 3 ? MemoryForm::kFlat
                          : dice.Of({MemoryForm::kExternal, MemoryForm::kFlat});
  o.reduction = dice.Of({Reduction::kSum, Reduction::kMean});
  o.micro_steps = dice.Of({1, 1, 2, 3});
  o.max_grad_norm = dice.Of({0.0, 0.0, 0.05, 1e6});
  o.max_grad_value = dice.Of({0.0, 0.0, 0.0, 0.01});
  const bool unchecked = dice.OneIn(4);
  o.non_finite =
      dice.Of({NonFiniteGradients::kError, NonFiniteGradients::kSkip});
  o.skip_above_grad_norm = dice.Of({0.0, 0.0, 0.0, 0.2});
  const bool limited =
      o.max_grad_norm > 0 || o.max_grad_value > 0 || o.skip_above_grad_norm > 0;
  if (unchecked && !limited) o.non_finite = NonFiniteGradients::kIgnore;
  o.absent_gradients =
      dice.Of({AbsentGradients::kError, AbsentGradients::kSkip});
  o.prefetch = dice.Int(0, 2);
  if (dice.OneIn(3)) o.second_moment = SecondMoment::kFactored;
  o.model.heads = dice.Of({2, 4});
  o.model.kv_heads = dice.Of({1, 2});
  o.model.head_dim = dice.Int(1, 3);
  DrawLayout(dice, c);
  DrawGroups(dice, c);
  // Refused where no parameter could have it.
  const bool has_mini = std::any_of(
      o.hyper_groups.begin(), o.hyper_groups.end(), [&](const HyperGroup& g) {
        return g.algorithm.value_or(o.algorithm) == Algorithm::kAdamMini;
      });
  if (!has_mini) o.second_moment = SecondMoment::kOfficial;
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

inline void DrawBad(Dice& dice, const RandomCase& c, RandomStep* step) {
  const int bad = dice.Of({1, 1, 2, 4});
  for (int i = 0; i < bad; ++i) {
    const int param = dice.Int(0, int(c.specs.size()) - 1);
    if (c.specs[param].frozen) continue;
    step->bad.push_back({param, dice.Int(0, c.ranks - 1),
                         dice.Int(0, c.options.micro_steps - 1),
                         dice.Of({NAN, INFINITY, -INFINITY})});
  }
}

inline void DrawStepOptions(Dice& dice, RandomStep* step) {
  StepOptions& o = step->options;
  o.learning_rate = dice.Of({0.01, 0.003, 0.02});
  if (dice.OneIn(8)) o.learning_rate = 0;
  if (dice.OneIn(16)) o.learning_rate = dice.Of({double{NAN}, -0.01, 1e300});
  o.loss_scale = std::ldexp(1.0, dice.Of({0, 0, 4, 10}));
  // Beyond fp16, but for gradients of zero.
  if (dice.OneIn(8)) o.loss_scale = std::ldexp(1.0, 29);
  o.wait = dice.OneIn(2);
  step->waiting = dice.Of(
      {Waiting::kAll, Waiting::kByParam, Waiting::kLate, Waiting::kLateEach});
}

inline void DrawChanges(Dice& dice, const RandomCase& c, RandomStep* step) {
  const auto any = [&] { return dice.Int(0, int(c.specs.size()) - 1); };
  step->gathers_before = c.options.stage == 3 && dice.OneIn(3);
  if (dice.OneIn(4)) step->state_of = any();
  if (dice.OneIn(5)) step->set_param = any();
  if (dice.OneIn(6)) {
    step->set_group = dice.Int(0, int(c.options.hyper_groups.size()) - 1);
    step->group = c.options.hyper_groups[step->set_group];
    step->group.weight_decay = dice.Of({0.0, 0.05, 0.2});
    step->group.learning_rate_scale = dice.Of({0.0, 0.5, 1.0, 2.0});
    step->group.beta2 = dice.Of({0.9, 0.95, 0.99});
  }
  step->broadcast = dice.OneIn(8);
  step->spoils = dice.OneIn(2);
  if (dice.OneIn(3)) step->watched = any();
}

// One step in `spoiled` has what is not finite.
inline RandomStep DrawStep(Dice& dice, const RandomCase& c, int spoiled) {
  RandomStep step;
  DrawStepOptions(dice, &step);
  step.order_seed = dice.Bits();
  for (int p = 0; p < int(c.specs.size()); ++p) {
    step.given.push_back(DrawGiven(dice, c, p));
  }
  if (dice.OneIn(spoiled)) DrawBad(dice, c, &step);
  if (dice.OneIn(3)) step.spread = dice.Bits() | 1;
  step.zeros_rows = dice.OneIn(6);
  step.zeros_columns = dice.OneIn(6);
  step.zeros = dice.Bits();
  step.mixes_micro_steps = dice.OneIn(3);
  step.threads = dice.Of({1, 1, 2, 3});
  DrawChanges(dice, c, &step);
  return step;
}

}  // namespace internal

inline RandomCase DrawCase(uint64_t seed) {
  Dice dice(seed);
  RandomCase c;
  c.ranks = dice.OneIn(8) ? dice.Of({8, 12}) : dice.Int(1, 7);
  internal::DrawOptions(dice, &c);
  c.options.log = [](LogLevel, absl::string_view) {};  // Rates of 0 are meant.
  internal::DrawModel(dice, &c);
  internal::DrawFormats(dice, &c);
  c.uses_homes = dice.OneIn(2);
  c.streams =
      dice.Of({CallerStreams::kNone, CallerStreams::kNone, CallerStreams::kNone,
               CallerStreams::kOne, CallerStreams::kOnePerParam,
               CallerStreams::kAnyOfThree});
  c.walks_forward = dice.OneIn(2);
  c.gathers_oddly = dice.OneIn(2);
  c.just_fits_budget = c.options.stage == 3 && dice.OneIn(2);
  c.delays = dice.OneIn(3) ? uint32_t(dice.Int(1, 1000)) : 0;
  const int steps = dice.Int(2, 5);
  const int spoiled = dice.Of({6, 6, 3, 1});
  for (int s = 0; s < steps; ++s) {
    c.steps.push_back(internal::DrawStep(dice, c, s + 1 < steps ? spoiled : 6));
  }
  return c;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_DRAW_H_
