// Method: what an optimizer does with one run of rows: how a gradient goes on
// the wire, and how a shard is updated from it. The road around it is the same
// for all, and each parameter has its own.

#ifndef ZEROMINI_RUNTIME_STEP_METHOD_H_
#define ZEROMINI_RUNTIME_STEP_METHOD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "runtime/device/memory_ledger.h"
#include "runtime/device/row_packing.h"
#include "shard/shard_layout.h"
#include "zeromini/kernels.h"
#include "zeromini/plan.h"

namespace zeromini {

// All pointers are of the device.
struct GradientPack {
  const PlannedParam& param;
  RowRange rows;         // Whole units.
  const void* gradient;  // The full tensor, of the parameter's dtype.
  float* wire;           // Gets the rows' elements on the wire.
  const void* shared;    // See Method::SharedBytes().
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
  // block_sums hold split blocks and rows of matrices with columns only.
  bool fused;
  const float* column_factors;  // See SpanState::columns_at.
  const StepScalars* scalars;
  const void* shared;
  // `gradient` is the rows themselves: this method or another of the bucket
  // refreshes in this step.
  bool full_gradient;
};

struct SharedRefresh {
  const PlannedParam& param;
  const float* gradient;  // Of the whole tensor, reduced, by rows.
  void* shared;
  const StepScalars* scalars;  // Nothing is refreshed where `update` is 0.
};

// Stateless, and called by any thread; calls kernels on the stream it is given,
// for Device::Launch().
class Method {
 public:
  virtual ~Method() = default;

  // Bytes of device memory that every rank holds for `param`, zeros at first
  // and equal on all ranks: what gradients are projected with, say. If not 0
  // the parameter is one unit.
  virtual int64_t SharedBytes(const PlannedParam&) const { return 0; }

  // Of the step with `number`, from 0, that all ranks are in: gradients of its
  // bucket travel as they are, and Refresh() comes before Update(). A step
  // in which one that is due is skipped or has no gradient does not count: all
  // stay due. Such steps cost a host wait.
  virtual bool Refreshes(int64_t) const { return false; }

  virtual absl::Status PackGradient(const KernelTable& kernels,
                                    const GradientPack& pack,
                                    Stream stream) const = 0;

  // On the rank that owns the parameter; the others get what it makes.
  virtual absl::Status Refresh(const KernelTable&, const SharedRefresh&,
                               Stream) const {
    return absl::OkStatus();
  }

  // The rule whose coded kernel is all that Update() does, for weights or state
  // that rest in fewer bits; none if a tile must be unpacked for it.
  virtual std::optional<UpdateRule> CodedRule(const PlannedParam&) const {
    return std::nullopt;
  }

  // Moves nothing where the scalars' `update` is 0, which the host may not
  // know: kernels that are given them see to it.
  virtual absl::Status Update(const KernelTable& kernels,
                              const RunUpdate& update, Stream stream) const = 0;
};

// Which method a parameter has.
using MethodChoice =
    std::function<std::shared_ptr<const Method>(const PlannedParam&)>;

// AdamW, Adam-mini and SGD: the plan alone tells them apart.
std::shared_ptr<const Method> MakeBlockMethod();

// A parameter's method, and the memory of its own that all ranks have alike.
struct ParamMethod {
  std::shared_ptr<const Method> method;
  Buffer shared;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_METHOD_H_
