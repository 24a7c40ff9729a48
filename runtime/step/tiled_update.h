// TiledUpdate: updates a run whose weights or state are stored in fewer bits. A
// tile at a time is unpacked to fp32, updated by the same kernels as any other,
// and packed again, all while it is in the cache: no fp32 copy of a shard ever
// exists, and every method works with every format.

#ifndef ZEROMINI_RUNTIME_STEP_TILED_UPDATE_H_
#define ZEROMINI_RUNTIME_STEP_TILED_UPDATE_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/state/bucket_shard.h"
#include "runtime/state/method.h"

namespace zeromini {

// Used on the compute stream only.
class TiledUpdate {
 public:
  // Scratch for any run of `plan`; none if all are plain.
  static absl::StatusOr<TiledUpdate> Create(const Plan& plan,
                                            const OptimizerOptions& options,
                                            Device& device);

  // `weights`: the run's rows, contiguous, of its dtype. `gradient`: the run on
  // the wire. Reads the block sums of all blocks.
  void Run(const Method& method, const KernelTable& kernels,
           const RunState& state, BucketShard& shard, void* weights,
           const float* gradient, const StepScalars& scalars, Stream stream);

 private:
  // One run and where it is, for the tiles of it.
  struct Job {
    const Method& method;
    const KernelTable& kernels;
    const RunState& state;
    BucketShard& shard;
    void* weights;
    const float* gradient;
    const StepScalars& scalars;
    Stream stream;
  };

  int64_t RowsPerTile(const PlannedParam& param) const;
  void RunSpan(const Job& job, const SpanState& span);
  // `spans` and `block_scalars` are of the tile alone; empty and null for
  // element_state.
  void RunTile(const Job& job, RowRange rows,
               const std::vector<SpanState>& spans, float* block_scalars);

  int64_t elements_ = 0;  // Of a tile.
  Buffer scratch_;        // Weights, momentum and second moments of a tile.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_TILED_UPDATE_H_
