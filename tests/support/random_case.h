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
#include "support/dice.h"
#include "support/exact_training.h"
#include "zeromini/optimizer.h"

namespace zeromini {

// How the weights of a step that did not wait are waited for.
enum class Waiting {
  kAll,       // At once.
  kByParam,   // At once, one after another.
  kLate,      // After what happens before the next gradients.
  kLateEach,  // Each just before its own next gradient.
};

// An element that is not finite.
struct BadElement {
  int param = 0;
  int rank = 0;
  int micro = 0;
  float value = 0;
};

struct RandomStep {
  StepOptions options;
  Waiting waiting = Waiting::kAll;
  uint64_t order_seed = 0;
  // Per parameter, micro-step and rank: whether its gradient is given.
  std::vector<std::vector<std::vector<char>>> given;
  std::vector<BadElement> bad;
  uint64_t spread = 0;  // Not 0: gradients of all sizes.
  bool zeros_rows = false;
  bool zeros_columns = false;
  uint64_t zeros = 0;              // Which.
  bool mixes_micro_steps = false;  // Not at stage 3.
  int threads = 1;                 // That give gradients; not at stage 3.

  // Before the gradients.
  bool gathers_before = false;  // Stage 3.
  int state_of = -1;            // A parameter whose state is read.
  int set_param = -1;
  int set_group = -1;
  HyperGroup group;
  bool broadcast = false;
  bool spoils = false;  // What the broadcast must mend.

  int watched = -1;  // A parameter whose weights are read after the step.
};

// Streams of the caller's that gradients come on.
enum class CallerStreams { kNone, kOne, kOnePerParam, kAnyOfThree };

struct RandomCase {
  OptimizerOptions options;
  std::vector<ParamSpec> specs;
  int ranks = 1;
  std::vector<RandomStep> steps;
  bool uses_homes = false;  // Gradients where Optimizer::GradData() says.
  CallerStreams streams = CallerStreams::kNone;
  bool walks_forward = false;     // Stage 3.
  bool gathers_oddly = false;     // Stage 3.
  bool just_fits_budget = false;  // Stage 3: of the largest layer set.
  uint32_t delays = 0;            // Seed of delayed communication; 0: none.

  int slices() const { return options.expert_slices; }
  int SliceOf(int rank) const { return rank % slices(); }
  bool tied(int p) const { return !specs[p].tied_to.empty(); }
};

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
      o.non_finite == NonFiniteGradients::kIgnore ? ", unchecked" : "",
      ", bucket_bytes ", o.bucket_bytes,
      o.blocks == BlockCuts::kSplitAtCuts ? ", split" : ", whole",
      o.second_moment == SecondMoment::kFactored ? ", factored" : "",
      o.bucketing == Bucketing::kByLayer ? ", by layer" : "", ", budget ",
      o.buffer_budget_bytes, ", copy_cost ", o.copy_cost,
      ", collective_cost_bytes ", o.collective_cost_bytes,
      c.uses_homes ? ", homes" : "",
      c.streams != CallerStreams::kNone ? ", streams" : "",
      c.gathers_oddly ? ", odd gathers" : "",
      c.just_fits_budget ? ", least budget" : "",
      c.delays > 0 ? ", delays" : "", "\n");
  for (const ParamSpec& spec : c.specs) {
    absl::StrAppend(&text, "  ", spec.name, " ", DTypeName(spec.dtype),
                    " rule ", int(spec.rule.kind), " group ", spec.hyper_group,
                    " layer ", spec.layer, spec.frozen ? " frozen" : "",
                    spec.expert ? " expert" : "",
                    spec.tied_to.empty() ? "" : " tied to ", spec.tied_to, " [",
                    Elements(spec), "]\n");
  }
  return text;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_CASE_H_
