// What a rank holds and sends, by the plan and the options alone: the numbers
// that Optimizer::Memory() and StepReport::traffic count, before anything is
// allocated or sent. Pure arithmetic: needs no group and no device.

#ifndef ZEROMINI_PLAN_BYTES_H_
#define ZEROMINI_PLAN_BYTES_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "zeromini/group.h"
#include "zeromini/memory_report.h"
#include "zeromini/options.h"
#include "zeromini/param_spec.h"
#include "zeromini/plan.h"

namespace zeromini {

// The plan that Optimizer::Create() makes on a group of `ranks`, or the error
// that it gives: of the options, the groups, the parameters or the plan. Where
// tensors lie is not looked at, so that ParamSpec::data may be null.
absl::StatusOr<Plan> PlanFor(absl::Span<const ParamSpec> params,
                             const OptimizerOptions& options, int ranks);

// In all that follows `plan` is PlanFor() these options, and `rank` is of the
// whole group: 0 to plan.options.ranks * plan.options.replicas - 1.

// What Optimizer::Memory() reports on `rank` after any step, to the byte, on
// the host and with this library's methods, but for
//   gathered  Stage 3: what is left of passes that gather the layer sets one by
//             one, forward and back, each released before the next is asked
//             for, with options.prefetch, and with kNoLayerSet's held
//             throughout. A trainer that holds more at a time keeps more.
//   buckets   More, if gradients do not come in the reverse order of the
//             parameters, or exchanges do not overlap.
//   peak      An upper bound of a step's, where `buckets` is as said and
//             gradients are given from one thread at a time.
// Before the first step `buckets` and `gathered` are 0. State events, such as
// ConsolidatedState() or SetParam(), take more while they last.
MemoryReport MemoryOf(const Plan& plan, const OptimizerOptions& options,
                      int rank);

// The rank that holds most state; the lowest, of several. Ranks differ in
// little else: what they keep for the statistics of it.
int LargestRank(const Plan& plan, const OptimizerOptions& options);

// Of one step, in which all gradients come.
struct StepBytes {
  // As CountingCommunicator counts them, padding in; of a whole group of ranks
  // on one host or many, so that bytes by level are left 0.
  TrafficCount gradients;
  // At stage 3 nothing is sent in Step(): this is one gather of every layer
  // set. A trainer's passes usually gather each twice, forward and backward.
  TrafficCount weights;
  TrafficCount scalars;

  // Bytes written by copies between a tensor and a buffer that it travels in.
  // Gradients that have a home (Optimizer::GradData()) are taken to be written
  // there by backward, all others to be given by pointer, once in each
  // micro-step. Packed gradients are fp32, whatever they come and travel as.
  int64_t copied_gradients = 0;
  // This rank's rows packed, others' unpacked; of rows that are columns at
  // rest, this rank's both ways. At stage 3 of one gather of every layer set.
  int64_t copied_weights = 0;

  int64_t collectives() const {
    return gradients.calls + weights.calls + scalars.calls;
  }
  int64_t padding() const {
    return gradients.padding_bytes + weights.padding_bytes;
  }
  int64_t copied() const { return copied_gradients + copied_weights; }
};
StepBytes StepBytesOf(const Plan& plan, const OptimizerOptions& options,
                      int rank);

}  // namespace zeromini

#endif  // ZEROMINI_PLAN_BYTES_H_
