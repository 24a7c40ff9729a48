// BucketShard: this rank's state of one bucket: momentum, second moments, the
// master weights if there are any, and the sums of squares of the gradient that
// has just landed.

#ifndef ZEROMINI_RUNTIME_STATE_BUCKET_SHARD_H_
#define ZEROMINI_RUNTIME_STATE_BUCKET_SHARD_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/exact_sum.h"
#include "runtime/device/device.h"
#include "runtime/state/method.h"
#include "runtime/state/shard_format.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

struct RunState {
  const Run* run = nullptr;
  const PlannedParam* param = nullptr;
  ShardFormat format;
  std::vector<SpanState> spans;
  // Where its values and scales begin, in bytes, in the bucket's momentum,
  // second moments (of element_state only) and master.
  int64_t momentum_at = 0;
  int64_t momentum_scales_at = 0;
  int64_t second_moment_at = 0;
  int64_t second_moment_scales_at = 0;
  int64_t master_at = 0;

  int64_t state_elements() const {
    return run->rows * param->state_row_elements;
  }
};

// Not thread-safe: used on the compute stream, or after it has been waited for.
class BucketShard {
 public:
  // `plan` must outlive the shard. With `wire_master` fp32 weights have an fp32
  // master too, since what is gathered of them is rounded.
  static absl::StatusOr<BucketShard> Create(const Plan& plan, int bucket,
                                            int rank,
                                            const OptimizerOptions& options,
                                            bool wire_master, Device& device);

  const std::vector<RunState>& runs() const { return runs_; }

  // Where a run's values are; the caller knows the format.
  void* momentum(const RunState& run) { return At(momentum_, run.momentum_at); }
  void* second_moment(const RunState& run) {
    return At(second_moment_, run.second_moment_at);
  }
  void* master(const RunState& run) { return At(master_, run.master_at); }
  // The bucket's block scalars: see SpanState.
  float* block_scalars() { return Floats(second_moment_); }
  double* block_sums() { return Doubles(block_sums_); }

  // This rank's segment of the bucket in fp32, by Run::offset; null if there is
  // no wire_master.
  float* wire_master() { return Floats(wire_master_); }

  // The state of `run` in fp32, and back. `step` is the parameter's count of
  // updates. `rows` are of the run, from its first.
  StateCodecArgs MomentumCodec(const RunState& run, RowRange rows, int64_t step,
                               float* unpacked);
  StateCodecArgs SecondMomentCodec(const RunState& run, RowRange rows,
                                   int64_t step, float* unpacked);

  // Sums of squares of `gradient`, this rank's wire segment. With `all` false
  // only those of split blocks, which no fused kernel can take.
  void TakeStatistics(const KernelTable& kernels, const float* gradient,
                      bool all, Stream stream);

  const ExactSum& norm() const { return norm_; }
  bool finite(int run) const { return finite_[run] != 0; }
  // Split blocks that this rank owns rows of, and its partial sum of each.
  struct Partial {
    ExactSum finite;
    double not_finite = 0;  // Of the other rows: NaN, infinity, or 0 if none.
  };
  const std::vector<int>& splits() const { return splits_; }
  const std::vector<Partial>& partials() const { return partials_; }

  // Puts the whole sum of a split block where the update reads it.
  void SetSplitSum(int split, double sum);

 private:
  static void* At(const Buffer& buffer, int64_t bytes) {
    return buffer == nullptr ? nullptr
                             : static_cast<char*>(buffer.get()) + bytes;
  }
  void AddSpans(const Plan& plan, RunState* state, int64_t* second_moments,
                int64_t* sums);
  absl::Status AllocateState(int64_t block_scalars, Device& device);
  // What momentum and second moments have in common.
  static StateCodecArgs Codec(const RunState& run, RowRange rows,
                              const Buffer& buffer, int64_t values_at,
                              int64_t scales_at);
  int PartialOf(int split) const;  // splits_.size() if it is not here.
  void AddToPartial(int split, double row_sum);
  void SumElements(const float* gradient, int run);
  void SumRows(const KernelTable& kernels, const float* gradient, int run,
               Stream stream);
  void SumSpan(const KernelTable& kernels, const float* gradient, int run,
               const SpanState& span, Stream stream);

  std::vector<RunState> runs_;
  Buffer momentum_;
  Buffer second_moment_;
  Buffer master_;
  Buffer wire_master_;
  Buffer block_sums_;
  std::vector<double> row_sums_;  // Scratch.
  ExactSum norm_;
  std::vector<char> finite_;       // Per run.
  std::vector<int> splits_;        // Indices into Plan::split_blocks.
  std::vector<Partial> partials_;  // Per entry of splits_.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_BUCKET_SHARD_H_
