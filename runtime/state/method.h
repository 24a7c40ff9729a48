// Method: what an optimizer does with one run of rows: how a gradient goes on
// the wire, and how a shard is updated from it. The pipeline around it is the
// same for all.

#ifndef ZEROMINI_RUNTIME_STATE_METHOD_H_
#define ZEROMINI_RUNTIME_STATE_METHOD_H_

#include <memory>
#include <vector>

#include "runtime/device/row_packing.h"
#include "zeromini/kernels.h"
#include "zeromini/plan.h"

namespace zeromini {

// A span of blocks in a run, and where its second moments and sums are.
struct SpanState {
  BlockSpan span;
  int64_t second_moment_offset = 0;  // Into the bucket's second moments.
  int64_t sums_offset = 0;           // Into the bucket's block sums.
  int split = -1;                    // Index into Plan::split_blocks, or -1.
};

struct RunUpdate {
  const PlannedParam& param;
  const Run& run;
  const std::vector<SpanState>& spans;  // Empty if param.element_state.
  float* parameter;                     // The run's rows, contiguous.
  const float* gradient;                // The run on the wire.
  float* momentum;                      // The run's state.
  // Of element_state runs: v of the run. Otherwise the bucket's: see SpanState.
  float* second_moment;
  const double* block_sums;  // The bucket's.
  bool fused;                // block_sums hold split blocks only.
  StepScalars scalars;
};

// Stateless; called on the compute stream.
class Method {
 public:
  virtual ~Method() = default;

  // `gradient` is of the parameter's dtype; `wire`, of fp32, holds rows.count *
  // param.wire_row_elements.
  virtual void PackGradient(const KernelTable& kernels,
                            const PlannedParam& param, RowRange rows,
                            const void* gradient, float* wire,
                            Stream stream) const = 0;

  virtual void Update(const KernelTable& kernels, const RunUpdate& update,
                      Stream stream) const = 0;
};

// AdamW and Adam-mini: the plan alone tells them apart.
std::unique_ptr<Method> MakeAdamMethod();

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_METHOD_H_
