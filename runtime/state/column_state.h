// ColumnState: averages over the columns of matrices whose second moments are
// factored or shared by columns. Every rank that has rows of a matrix has all
// of its columns, equal on all of them; sums meet in the step's exchange.

#ifndef ZEROMINI_RUNTIME_STATE_COLUMN_STATE_H_
#define ZEROMINI_RUNTIME_STATE_COLUMN_STATE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "shard/column_layout.h"
#include "zeromini/kernels.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Memory of the device, which kernels on the compute stream read and write.
class ColumnState {
 public:
  static absl::StatusOr<ColumnState> Create(const Plan& plan,
                                            const OptimizerOptions& options,
                                            int rank, Device& device);

  const ColumnLayout& layout() const { return layout_; }

  // Where the sums of what lands are taken, until a step's exchange.
  ColumnSums sums() const;
  // [layout().shared]: tops that ranks agree on, zero between steps.
  uint8_t* agreed() const { return static_cast<uint8_t*>(agreed_.get()); }

  // [layout().local], by ColumnLayout::LocalAt(): averages, and the factors of
  // the step at hand.
  float* moments() const { return Floats(moments_); }
  const float* factors() const { return Floats(factors_); }

  // `words`: [layout().shared], in the device's memory.
  ColumnArgs Args(int64_t* words, const StepScalars* scalars) const;

 private:
  ColumnLayout layout_;
  int exponent_ = 0;  // See ColumnSums.
  Buffer matrices_;   // Of ColumnMatrix.
  Buffer digits_;
  Buffer tops_;
  Buffer agreed_;
  Buffer moments_;
  Buffer factors_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_COLUMN_STATE_H_
