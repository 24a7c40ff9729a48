// TiledUpdate: updates a run whose weights or state are stored in fewer bits,
// by one kernel where the method is a rule that the device has one for.
// Otherwise a tile at a time is unpacked to fp32, updated by the same kernels
// as any other, and packed again, all while it is in the cache: no fp32 copy of
// a shard exists, and every method works with every format. A run of what is
// one unit to its method is one tile, whatever its size. Both ways give the
// same bits.

#ifndef ZEROMINI_RUNTIME_STEP_TILED_UPDATE_H_
#define ZEROMINI_RUNTIME_STEP_TILED_UPDATE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/state/shard_state.h"
#include "runtime/step/method.h"

namespace zeromini {

// One run and where it is. Pointers are of the device.
struct RunJob {
  const ParamMethod& method;
  const RunState& run;
  const ShardState& state;
  int bucket;
  void* weights;  // The run's rows, contiguous, of its dtype.
  const float* gradient;
  const double* block_sums;  // The bucket's.
  const StepScalars* scalars;
  bool full_gradient;
};

// Used by tasks of the compute stream only: tiles share one scratch.
class TiledUpdate {
 public:
  // Scratch for any run of `plan`; none if all are plain.
  static absl::StatusOr<TiledUpdate> Create(const Plan& plan,
                                            const OptimizerOptions& options,
                                            Device& device);

  // Calls kernels on `on`. Reads the block sums of all blocks.
  absl::Status Run(const KernelTable& kernels, const RunJob& job,
                   Stream on) const;

 private:
  // Rows of a run that are updated together. `blocks` and `block_scalars` are
  // of the tile alone: null for element_state.
  struct Tile {
    RowRange rows;
    const SpanState* blocks = nullptr;
    float* block_scalars = nullptr;
  };

  absl::Status RunCoded(const KernelTable& kernels, const RunJob& job,
                        UpdateRule rule, Stream on) const;
  CodedUpdateArgs CodedArgs(const RunJob& job, UpdateRule rule,
                            RowRange rows) const;
  // Of blocks or, where the span is of a matrix with columns, its rows.
  CodedUpdateArgs SpanArgs(const RunJob& job, const SpanState& span) const;
  int64_t RowsPerTile(const PlannedParam& param) const;
  absl::Status RunSpan(const KernelTable& kernels, const RunJob& job,
                       const SpanState& span, Stream on) const;
  absl::Status RunLargeBlock(const KernelTable& kernels, const RunJob& job,
                             const SpanState& block, Stream on) const;
  absl::Status RunTile(const KernelTable& kernels, const RunJob& job,
                       const Tile& tile, Stream on) const;
  WeightCodecArgs WeightCodec(const RunJob& job, RowRange rows) const;

  int64_t elements_ = 0;  // Of a tile.
  Buffer scratch_;  // Weights, momentum, second moments of a tile, one scalar.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_TILED_UPDATE_H_
