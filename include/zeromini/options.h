// OptimizerOptions: what a run can choose, and why each default is what it is.

#ifndef ZEROMINI_OPTIONS_H_
#define ZEROMINI_OPTIONS_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "zeromini/log.h"
#include "zeromini/param_spec.h"
#include "zeromini/plan.h"
#include "zeromini/types.h"

namespace zeromini {

// Hyper-parameters of a set of parameters. The official runs use betas
// (0.9, 0.95) and weight decay 0.1 (zyushun/Adam-mini README and
// examples/llama/train.py:124-136).
struct HyperGroup {
  std::string name = "default";
  double learning_rate_scale = 1;  // 0, which moves nothing, gives a warning.
  double weight_decay = 0.1;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  // Norms and biases do not decay unless this is set.
  bool decay_norms_and_biases = false;

  // Empty: OptimizerOptions::algorithm. Adam-mini for matrices and AdamW for
  // the rest, say. SetHyperGroup() cannot change it, nor the two below.
  std::optional<Algorithm> algorithm;

  // Which parameters join, of those whose ParamSpec::hyper_group is -1: those
  // whose name matches one of the patterns (* and ? as in a shell, over the
  // whole name), or for which `matches` is true. All ranks must come to the
  // same. A pattern or predicate that no parameter joins by is refused.
  std::vector<std::string> patterns;
  std::function<bool(const ParamSpec& spec)> matches;
};

enum class Reduction { kMean, kSum };  // Over ranks and micro-steps.
enum class AbsentGradients { kError, kSkip };
enum class NonFiniteGradients {
  kError,   // Step() refuses, nothing has changed, and training may go on.
  kSkip,    // The step is skipped, on every rank: StepReport::not_finite.
  kIgnore,  // Nobody looks.
};

// Whose update kernels run, on OptimizerOptions::device.
enum class KernelChoice {
  kNative,     // The device's own; on the host SIMD, chosen at run time.
  kReference,  // The formula in doubles, on the host: slow, to compare with.
};

struct OptimizerOptions {
  Algorithm algorithm = Algorithm::kAdamMini;

  // ZeRO. 1: full gradients until Step(). 2: only this rank's shard. 3: weights
  // too are only there in shards, outside of Optimizer::Gather() and Release();
  // needs kFlat.
  int stage = 1;
  std::vector<HyperGroup> hyper_groups = {HyperGroup()};
  Reduction reduction = Reduction::kMean;

  // Clips the global L2 norm; 0 is off. The norm needs a pass over the gradient
  // before the update; `non_finite` says what leaves it out.
  double max_grad_norm = 0;

  // Clips each element of the gradient that the update uses (the mean or sum,
  // loss scale divided out) to +-this, before the norm is taken. 0 is off. With
  // it on, sums of squares are taken in Step(), not under backward.
  double max_grad_value = 0;

  // What becomes of a step with a gradient that is not finite. With kIgnore NaN
  // and infinity are numbers like others, and go where the method's arithmetic
  // takes them: into their block, on any number of ranks and in any format; the
  // update reads the gradient once, and there is no norm to report. So kIgnore
  // is refused beside max_grad_norm, max_grad_value and skip_above_grad_norm,
  // which a NaN would leave without a meaning.
  NonFiniteGradients non_finite = NonFiniteGradients::kError;

  // Skips a step whose global L2 norm, before clipping, is above it: on every
  // rank, weights and state untouched, StepReport::skipped set. 0 is off.
  double skip_above_grad_norm = 0;

  // kError: every rank must give every gradient that is not frozen. kSkip: a
  // gradient absent on all ranks skips its parameter (no decay, no step); one
  // present on some ranks counts as zero on the others. At stage 3, if Gather()
  // is called between gradients, a gradient must come on all ranks or on none,
  // kSkip or not: exchanges leave in the order of the calls, and ranks whose
  // orders differ get an error that names a parameter.
  AbsentGradients absent_gradients = AbsentGradients::kError;

  // Gradients given per parameter before a Step(). Stage 1 adds them locally
  // and exchanges once; stages 2 and 3 exchange each time and add shards. Sums
  // are fp32, whatever the gradients' dtype.
  int micro_steps = 1;

  MemoryForm memory = MemoryForm::kExternal;

  // What gradients travel as: kFloat32, or kBFloat16, which halves their bytes.
  // Sums stay fp32; Exchange::wire states the error.
  DType gradient_wire = DType::kFloat32;

  // The next two both make masters, of different tensors: no tensor has two,
  // and neither option wins. A master lives on the rank that owns the elements
  // and is counted in MemoryReport::master; all updates go to it, so none is
  // too small. It is taken from the weights at the first Step() after Create(),
  // BroadcastParams() or SetParam(); weights that are changed by hand later are
  // not seen without one of the latter.
  //
  // fp32 weights alone: what they travel as. With kBFloat16, which halves their
  // bytes, each weight that is not frozen is a bf16 number after every Step(),
  // equal on all ranks, one rank included, also where a gradient was absent;
  // its master is fp32, whatever `master` is, and takes 4 bytes, or none at
  // stage 3, where the shards themselves are the masters.
  DType weight_wire = DType::kFloat32;

  // bf16 and fp16 weights alone, which travel as they are, whatever
  // `weight_wire` is. See types.h.
  MasterFormat master = MasterFormat::kFloat32;

  // Of the momentum, and of AdamW's second moments. Tensors whose rows are
  // single elements (AdamW's 1-D ones) stay fp32 under kInt8.
  StateFormat state = StateFormat::kFloat32;

  // Stage 3: the most bytes that gathered weights may take at a time; beyond
  // it Gather() refuses. 0: no limit. Buffers of released sets are kept for
  // the next within it. `prefetch`: how many further sets a Gather() starts,
  // in the direction of the pass, as far as the budget has room.
  int64_t gather_budget_bytes = 0;
  int prefetch = 1;

  // Hybrid sharding (HSDP): ranks that share one copy of state (and weights, at
  // stage 3); it divides the ranks, which are taken in order, and each such
  // group holds a copy. Gradients are reduce-scattered inside a group, then
  // all-reduced between groups, on shards only and as fp32. 0: all ranks are
  // one group.
  int shard_ranks = 0;

  // Expert parallelism: rank r holds the experts of slice r % expert_slices, in
  // parameters that have ParamSpec::expert set and equal names and shapes on
  // all ranks. They are sharded, and their gradients are summed, over the ranks
  // of the slice only; with kMean the sum is divided by all ranks, as that of
  // the others. shard_ranks must then be given and divide ranks per slice.
  int expert_slices = 1;

  // Planner choices; algorithm, ranks and stage are filled in from here.
  ModelShape model;
  Naming naming = Naming::kZeromini;
  ValueBlocks value_blocks = ValueBlocks::kRows;
  SecondMoment second_moment = SecondMoment::kOfficial;
  BlockCuts blocks = BlockCuts::kWhole;
  Bucketing bucketing = Bucketing::kCheapest;
  int64_t bucket_bytes = 0;
  // Gradients in the reverse order of the parameters always fit, if need be in
  // more than this. Buckets leave in that order only, so others that come
  // before take a buffer each; with kSkip one that is absent holds up all
  // behind it until Step(). A gradient that then finds no room breaks the step,
  // on every rank, with ResourceExhausted; by default (0) it takes more, with
  // one warning, and Memory() counts it. Buffers that wait for a thread that
  // alone may exchange (Communicator::overlaps()) are not counted.
  int64_t buffer_budget_bytes = 0;
  double copy_cost = 0.125;
  int64_t collective_cost_bytes = int64_t{128} << 10;

  // Whose memory weights and gradients lie in, and who updates them. Create()
  // is Unimplemented on every rank for what the library was built without.
  DeviceKind device = DeviceKind::kHost;
  KernelChoice kernels = KernelChoice::kNative;

  // Where warnings go; null: stderr. Rank 0 alone warns of the plan and groups.
  LogSink log;
};

}  // namespace zeromini

#endif  // ZEROMINI_OPTIONS_H_
