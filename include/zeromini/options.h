// OptimizerOptions: what a run can choose, and why each default is what it is.

#ifndef ZEROMINI_OPTIONS_H_
#define ZEROMINI_OPTIONS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "zeromini/plan.h"
#include "zeromini/types.h"

namespace zeromini {

// Hyper-parameters of a set of parameters. The official runs use betas
// (0.9, 0.95) and weight decay 0.1 (zyushun/Adam-mini README and
// examples/llama/train.py:124-136).
struct ParamGroup {
  std::string name = "default";
  double learning_rate_scale = 1;
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  // Norms and biases do not decay unless this is set.
  bool decay_norms_and_biases = false;
};

enum class Reduction { kMean, kSum };  // Over ranks and micro-steps.
enum class AbsentGradients { kError, kSkip };
enum class NonFiniteGradients { kError, kSkip };

enum class MemoryForm {
  kExternal,  // Weights live where ParamSpec::data says.
  kFlat,      // The optimizer owns weights (and at stage 1 gradients), laid out
              // so that buckets that are cut in place need no copy.
};

struct OptimizerOptions {
  Algorithm algorithm = Algorithm::kAdamMini;
  int stage = 1;  // 1: full gradients until Step. 2: only this rank's shard.
  std::vector<ParamGroup> groups = {ParamGroup()};
  Reduction reduction = Reduction::kMean;

  // Clips the global L2 norm; 0 is off. Clipping sees what is not finite, too:
  // only with both off does the update read the gradient once.
  double max_grad_norm = 0;
  bool check_finite = true;
  NonFiniteGradients non_finite = NonFiniteGradients::kError;

  // Skips a step whose global L2 norm, before clipping, is above it: on every
  // rank, weights and state untouched, StepReport::skipped set. 0 is off.
  double skip_above_grad_norm = 0;

  // kError: every rank must give every gradient that is not frozen. kSkip: a
  // gradient absent on all ranks skips its parameter (no decay, no step); one
  // present on some ranks counts as zero on the others.
  AbsentGradients absent_gradients = AbsentGradients::kError;

  // Gradients given per parameter before a Step(). Stage 1 adds them locally
  // and exchanges once; stage 2 exchanges each time and adds shards.
  int micro_steps = 1;

  MemoryForm memory = MemoryForm::kExternal;

  // What gradients and weights travel as: kFloat32, or kBFloat16, which halves
  // their bytes. Each direction by itself.
  //
  // Gradients: sums stay fp32; Exchange::wire states the error. Weights: after
  // every Step() each weight that is not frozen is a bf16 number, equal on all
  // ranks, one rank included, also where a gradient was absent. Each rank keeps
  // an fp32 master of the elements it owns (4 bytes each,
  // MemoryReport::master), which all updates go to, so no update is too small.
  // The master is taken from the weights at the first Step() after Create() or
  // BroadcastParams(); weights that are changed by hand later are not seen
  // without the latter.
  DType gradient_wire = DType::kFloat32;
  DType weight_wire = DType::kFloat32;

  // Planner choices; algorithm, ranks and stage are filled in from here.
  ModelShape model;
  Naming naming = Naming::kZeromini;
  ValueBlocks value_blocks = ValueBlocks::kRows;
  int64_t bucket_bytes = 0;

  // "cpu" or "reference": which kernel table updates the shard.
  std::string kernels = "cpu";
};

}  // namespace zeromini

#endif  // ZEROMINI_OPTIONS_H_
