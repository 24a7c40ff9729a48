// Optimizer: one rank's share of a ZeRO-sharded optimizer.
//
//   auto optimizer = Optimizer::Create(options, params, group);
//   // In the backward hook of parameter i:
//   status = (*optimizer)->GradReady(i, grad);
//   // After backward:
//   StepOptions step;
//   step.learning_rate = 3e-4;
//   auto report = (*optimizer)->Step(step);

#ifndef ZEROMINI_OPTIMIZER_H_
#define ZEROMINI_OPTIMIZER_H_

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "zeromini/communicator.h"
#include "zeromini/group.h"
#include "zeromini/memory_report.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"
#include "zeromini/plan.h"
#include "zeromini/stream.h"

namespace zeromini {

struct StepOptions {
  // Times each group's learning_rate_scale. Must be given: what moves nothing
  // is 0, said explicitly.
  double learning_rate = std::numeric_limits<double>::quiet_NaN();

  // False: return once everything is enqueued. Before a parameter's weights are
  // read, its GradData() is touched or its next gradient is given, WaitParam()
  // of it or WaitAll().
  //
  // Whether Step() still waits for the decision (is there an update, of what
  // norm) is up to the policies: one that is kError must be told here. Where
  // neither absent_gradients nor non_finite is, nothing is waited for, and the
  // report is pending. Only a step that takes masters is told at once even so.
  // Gradients given on a stream must then live until WaitAll(), and numbers
  // that one rank alone refuses (of a rate, say) are an error there at once but
  // on the others later: in the Step() two calls on, or WaitAll(). A rank that
  // stops at such an error leaves its peers waiting, as one that dies does.
  bool wait = true;

  // What the loss was multiplied by: the update and grad_norm see gradients
  // divided by it. Finite and positive. See loss_scale.h.
  double loss_scale = 1;
};

struct StepReport {
  // The host has not read yet what was decided: nothing else here is of this
  // step but `traffic` and `seconds_total`, and neither `skipped` nor
  // `not_finite` can be true. WaitAll(), then Optimizer::LastReport(), tell.
  bool pending = false;
  // Optimizer steps taken, skipped ones left out; pending: as far as is known.
  int64_t step = 0;
  bool skipped = false;         // Nothing changed, on any rank.
  std::string skipped_because;  // Empty unless skipped.
  // Older steps that were pending until now and turn out to have been skipped;
  // those of them that not_finite would say it of.
  int64_t skipped_late = 0;
  int64_t not_finite_late = 0;
  // Skipped, and because a gradient was not finite: skipped_because names it.
  bool not_finite = false;

  // Global L2 norm of the reduced gradient, before clipping; NaN under kIgnore,
  // since then nothing computes it, and if `not_finite`.
  double grad_norm = 0;
  double clip_scale = 1;  // What the gradient was multiplied by.
  int64_t absent_params = 0;
  // What this rank has sent since the report before it. A Step() that failed
  // gave none: its bytes are in the next one's.
  Traffic traffic = {};

  // Of this rank, in this step. Exchanges that ran under backward or under a
  // kernel cost nothing here; `exposed` is what Step() waited for. All but the
  // first stay 0 in the report of a step that was pending.
  double seconds_total = 0;
  double seconds_exposed_gradients = 0;
  double seconds_scalars = 0;
  double seconds_update = 0;           // In kernels, since the last report.
  double seconds_exposed_weights = 0;  // 0 if wait was false.
};

// Where a Gather() belongs, which says what is worth prefetching.
enum class GatherPass { kForward, kBackward, kNone };

// Threads. Between two Step()s any number of threads may call GradReady(),
// WaitParam(), and, in an order that all ranks share, Gather() and Release(),
// at the same time. plan(), traffic() and Memory() may be called at any time.
// All other calls are for one thread at a time, while no other runs; it need
// not be the same one always. Where exchanges run on one thread only (see
// mpi.h), so do waits for them: WaitParam() with a null stream, and all that is
// collective.
//
// A failure of one rank alone, such as no memory for a gradient, is every
// rank's: it breaks the caller's group, and each later call on each rank
// returns it, with the rank named, instead of waiting. What is only refused
// breaks nothing. traffic(), Memory(), plan() and LastReport() go on to tell
// what was there: bytes of exchanges that a failed step or a broken group has
// begun are counted as sent.
class Optimizer {
 public:
  // Starts no exchange. Waits for those that have left, and so for the streams
  // that their gradients come on: at most 100 timeouts of the group, and then
  // what is queued is dropped and the group breaks. Other work that callers'
  // streams were given by GradReady() or Release() is not waited for: what it
  // needs lives until they come to it.
  virtual ~Optimizer() = default;

  // Collective. `group` must outlive the optimizer. Plans, compares the plan
  // across ranks, allocates. Bad arguments on any rank, or ranks that disagree,
  // give every rank the same InvalidArgument, which names rank and parameter;
  // a device that the library was built without gives them Unimplemented.
  static absl::StatusOr<std::unique_ptr<Optimizer>> Create(
      const OptimizerOptions& options, absl::Span<const ParamSpec> params,
      Communicator& group);

  // Flat memory only: where the caller's tensor lives, of the parameter's
  // dtype; null otherwise. Stages 1 and 2: for the life of the optimizer, and
  // the caller writes initial weights there. Stage 3: from Gather() to
  // Release(), and what is written there is lost; see SetParam().
  virtual void* ParamData(int param) = 0;
  // Flat memory, stage 1 and fp32 only; null otherwise, and for parameters that
  // are tied: their gradients are given by pointer. The optimizer's from the
  // step's last GradReady() of it until Step() has returned; where that did not
  // wait, until WaitParam() of it or WaitAll() has. The caller's otherwise, to
  // write to: what is left there after a step is of no use.
  virtual float* GradData(int param) = 0;

  // Collective. Rank 0's `data`, the full tensor in the parameter's dtype,
  // becomes the weights of `param` on all ranks; the others' may be null. Of an
  // expert's it is the `data` of each slice's first rank, rank r of r <
  // expert_slices. InvalidArgument on every rank, and nothing has changed, if
  // one of those is null or ranks name different parameters. The
  // next Step() starts from them; at stage 3 so does the next Gather(), while
  // what is gathered stays as it is. Costs a broadcast of the tensor.
  virtual absl::Status SetParam(int param, const void* data) = 0;

  // Stage 3 (else FailedPrecondition). Gather() starts to bring together the
  // full weights of all parameters of a layer set (PlannedParam::layer_set;
  // kNoLayerSet: those of none; kLayerSetOfLayer is InvalidArgument) and
  // returns; WaitParam() before reading them. Release() ends that;
  // `stream` is the one that last read them. Gathering what is gathered and
  // releasing what is not are no errors. Step() releases everything.
  //
  // Gather() also starts the next sets (OptimizerOptions::prefetch) upwards in
  // kForward or downwards in kBackward. ResourceExhausted if the set alone does
  // not fit the budget beside what is gathered, InvalidArgument if no
  // parameter is in it; neither breaks anything, so what only some ranks call
  // for keeps the others waiting until the deadline of the group.
  //
  // Both are collective, and gradients leave when a bucket's last one comes: so
  // all ranks must call Gather() and GradReady() in one order, and a gradient
  // that is absent on some ranks only breaks it, kSkip or not. Each gather
  // sends what an all-gather of the set's weights costs: (ranks-1)/ranks of
  // their bytes.
  virtual absl::Status Gather(int layer_set,
                              GatherPass pass = GatherPass::kNone) = 0;
  virtual absl::Status Release(int layer_set, Stream stream = {}) = 0;

  // Gradient of parameter `param` for this micro-step, full and unreduced,
  // shaped and typed like the parameter, on this rank. Any thread. Any order as
  // far as OptimizerOptions::buffer_budget_bytes goes, if it is given: it is
  // enough for the reverse order of the parameters, but two large tensors that
  // change places can need more; exchanges leave in one bucket order on all
  // ranks. Without a `stream` the gradient has been read when the call returns;
  // otherwise in that stream's order, at the latest when a Step() that is not
  // pending returns. Null `grad`: it is at GradData(), where the caller adds up
  // its micro-steps; Step() leaves nothing of use there. By pointer the
  // optimizer adds them up, and overwrites what is at GradData().
  //
  // FailedPrecondition if it has been given already, or both ways in one step;
  // InvalidArgument for a bad index, a frozen parameter, or a null gradient of
  // what has no GradData(). ResourceExhausted, with the numbers, if there is no
  // exchange buffer: then the group is broken.
  virtual absl::Status GradReady(int param, const void* grad,
                                 Stream stream = {}) = 0;

  // Collective. Closes the last micro-step, updates, gathers. Weights change
  // only here: until backward ends it may read them. On an error that is no
  // broken group (absent or non-finite gradient), weights and state are those
  // of the last step, this step's gradients are dropped, and training may go
  // on. So it is if fp32 kernels cannot take the numbers given (a negative
  // rate, a rate over epsilon beyond fp32). Sends what CountingCommunicator
  // documents: gradients once per exchange and weights once, plus an all-reduce
  // of 168 bytes, 8 per parameter, 168 per split block and 8 per column that
  // has an average (BlockRule::kFactored, kColumns; an expert's once in each
  // slice), and, if there are any, one before it of a byte per such column.
  //
  // Aborted: what was pending of an older step was an error, which is told
  // now; the step of this call was taken as it should be, and LastReport() is
  // its report.
  virtual absl::StatusOr<StepReport> Step(const StepOptions& options) = 0;

  // Of the last Step() that gave a report or Aborted; no more pending once
  // WaitAll() has returned, unless with the error of a broken group. Earlier
  // ones that were pending are only counted, in skipped_late and
  // not_finite_late: who needs each (a LossScale does) calls WaitAll() between
  // steps.
  virtual StepReport LastReport() const = 0;

  // Returns once the last Step() or, at stage 3, the last Gather() has put the
  // weights of `param` in place and left its GradData(); with a stream it
  // returns at once, and what is given to that stream later runs after that. At
  // stage 3 FailedPrecondition, naming the layer set, for what is not gathered,
  // as nothing is after a Step(): there WaitAll() waits for the update. Of a
  // parameter that is frozen it has nothing to wait for.
  virtual absl::Status WaitParam(int param, Stream stream = {}) = 0;
  // For all that has been asked for. Its error may be that of a step that was
  // pending: what some rank refused there, which left weights and state as they
  // were.
  virtual absl::Status WaitAll() = 0;

  // Collective. Makes every rank's weights equal to rank 0's, an expert's to
  // those of its slice's first rank, after the step before it. Once, after
  // initialisation with a seed that differs by rank, or after loading on one.
  // Masters are taken from these weights. Nothing to do at stage 3, where there
  // is one of each.
  virtual absl::Status BroadcastParams() = 0;

  // Collective; a state event. On every rank the full momentum, in the
  // parameter's shape, and the second moments as they are kept, averages of
  // squares without bias correction: in the parameter's shape if
  // PlannedParam::element_state is true, none for SGD. Else scalars in the
  // order of the plan's rows (outputs if PlannedParam::transposed, else as they
  // are stored), one of each block, one of each row of what is kFactored, none
  // of what is kColumns; and then [row_elements] of each of MatricesOf(), one
  // of each column. An element of what is kFactored has r_i c_j / mean(c), c
  // being its own matrix's.
  struct ParamState {
    std::vector<float> momentum;
    std::vector<float> second_moment;
    int64_t steps = 0;
  };
  virtual absl::StatusOr<ParamState> ConsolidatedState(int param) = 0;

  // Between steps. Index as in OptimizerOptions::hyper_groups.
  virtual absl::Status SetHyperGroup(int group, const HyperGroup& hyper) = 0;

  virtual const zeromini::Plan& plan() const = 0;
  virtual MemoryReport Memory() const = 0;  // Counted, not estimated.
  virtual Traffic traffic() const = 0;      // Since Create().

  // Collective. Ends outstanding work, with the patience of the destructor, and
  // frees the groups that the optimizer made; later calls fail. The caller's
  // group stays open.
  virtual absl::Status Close() = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_OPTIMIZER_H_
