// BucketShard: this rank's state of one bucket: momentum, second moments, the
// master weights if there are any, and the sums of squares of the gradient that
// has just landed.

#ifndef ZEROMINI_RUNTIME_BUCKET_SHARD_H_
#define ZEROMINI_RUNTIME_BUCKET_SHARD_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/exact_sum.h"
#include "runtime/device.h"
#include "runtime/method.h"
#include "runtime/param_store.h"
#include "zeromini/plan.h"

namespace zeromini {

struct RunState {
  const Run* run = nullptr;
  const PlannedParam* param = nullptr;
  std::vector<SpanState> spans;
  int64_t second_moment_offset = 0;
};

// Not thread-safe: used on the compute stream, or after it has been waited for.
class BucketShard {
 public:
  // `plan` must outlive the shard.
  static absl::StatusOr<BucketShard> Create(const Plan& plan, int bucket,
                                            int rank, bool keeps_master,
                                            Device& device);

  const std::vector<RunState>& runs() const { return runs_; }
  float* momentum() { return Floats(momentum_); }
  float* second_moment() { return Floats(second_moment_); }
  // This rank's segment of the bucket in fp32, by Run::offset; null if the
  // weights themselves are the fp32 ones.
  float* master() { return Floats(master_); }
  double* block_sums() { return Doubles(block_sums_); }

  // master() = the rows that this rank owns of `store`'s tensors.
  void TakeMaster(const KernelTable& kernels, const ParamStore& store,
                  Stream stream);

  // Sums of squares of `gradient`, this rank's wire segment. With `all` false
  // only those of split blocks, which no fused kernel can take.
  void TakeStatistics(const KernelTable& kernels, const float* gradient,
                      bool all, Stream stream);

  const ExactSum& norm() const { return norm_; }
  bool finite(int run) const { return finite_[run] != 0; }
  // Split blocks that this rank owns rows of, and its partial sum of each.
  const std::vector<int>& splits() const { return splits_; }
  const std::vector<ExactSum>& partials() const { return partials_; }

  // Puts the whole sum of a split block where the update reads it.
  void SetSplitSum(int split, double sum);

 private:
  int PartialOf(int split) const;  // splits_.size() if it is not here.
  void SumElements(const float* gradient, int run);
  void SumRows(const KernelTable& kernels, const float* gradient, int run,
               Stream stream);
  void SumSpan(const KernelTable& kernels, const float* gradient, int run,
               const SpanState& span, Stream stream);

  std::vector<RunState> runs_;
  Buffer momentum_;
  Buffer second_moment_;
  Buffer master_;
  Buffer block_sums_;
  std::vector<double> row_sums_;  // Scratch.
  ExactSum norm_;
  std::vector<char> finite_;        // Per run.
  std::vector<int> splits_;         // Indices into Plan::split_blocks.
  std::vector<ExactSum> partials_;  // Per entry of splits_.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_BUCKET_SHARD_H_
