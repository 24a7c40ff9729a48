// ShardState: what this rank owns of the optimizer's state: momentum, second
// moments, masters, and each parameter's count of updates. Whoever saves, moves
// or consolidates state asks here, by rows, and needs no other rank.

#ifndef ZEROMINI_RUNTIME_STATE_SHARD_STATE_H_
#define ZEROMINI_RUNTIME_STATE_SHARD_STATE_H_

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/device/row_packing.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/column_state.h"
#include "runtime/state/rounding_seed.h"
#include "shard/shard_layout.h"
#include "zeromini/kernels.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Consecutive rows of one parameter that this rank owns, and where their state
// is. Pointers are of the device; null where there is nothing of the kind. They
// stay for the life of the ShardState; what they point to changes on the
// compute stream.
struct StateView {
  int param = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  int64_t first_block = 0;  // Of those at least partly in the rows; of
  int64_t blocks = 0;       // element_state none.
  // What the momentum of these rows is: as many rows of as many elements, or
  // the rows of a projection: see ProjectedRowElements().
  int64_t state_rows = 0;
  int64_t state_row_elements = 0;

  StateFormat format = StateFormat::kFloat32;  // Momentum, and v per element.
  void* momentum = nullptr;             // [state_rows, state_row_elements]
  uint16_t* momentum_scales = nullptr;  // kInt8: see StateCodecArgs.
  void* second_moment = nullptr;        // As the momentum or, of blocks, fp32.
  uint16_t* second_moment_scales = nullptr;

  // Matrices, by MatricesOf(), that are at least partly in the rows, and the
  // averages of all of their columns, which other ranks with rows of them have
  // as well. [matrices, row_elements]
  int64_t first_matrix = 0;
  int64_t matrices = 0;
  float* column_moments = nullptr;

  MasterFormat master_format = MasterFormat::kNone;
  void* master = nullptr;  // [rows, row_elements]
};

// The same in host memory, as fp32: exact, since every format widens to it.
struct StateValues {
  std::vector<float> momentum;
  std::vector<float> second_moment;   // Per element, or per block of the view.
  std::vector<float> column_moments;  // As the view's.
  // As it is stored: what a remainder restores is the weight's, too. Of use
  // only if ShardState::has_master().
  std::vector<char> master;
};

// Not thread-safe. What it hands out is used on the compute stream, or after
// that has been waited for. Column moments are written alike on all ranks that
// have rows of their matrix, or the ranks' updates differ from then on.
class ShardState {
 public:
  // All must outlive it.
  static absl::StatusOr<ShardState> Create(const Plan& plan,
                                           const OptimizerOptions& options,
                                           const RankGroups& groups,
                                           Device& device);

  const ShardLayout& layout(int bucket) const { return parts_[bucket].layout; }
  const ColumnState& columns() const { return columns_; }

  // Where a run's values are, in the bucket's memory.
  void* momentum(int bucket, const RunState& run) const {
    return At(parts_[bucket].momentum, run.momentum_at);
  }
  void* second_moment(int bucket, const RunState& run) const {
    return At(parts_[bucket].second_moment, run.second_moment_at);
  }
  void* master(int bucket, const RunState& run) const {
    return At(parts_[bucket].master, run.master_at);
  }
  float* block_scalars(int bucket) const {
    return Floats(parts_[bucket].second_moment);
  }
  // This rank's segment of the bucket in fp32, by Run::offset; null unless
  // ShardLayout::master_is_segment.
  float* master_segment(int bucket) const;

  // To unpack `rows` of the run, counted from its first, and pack them again.
  // `unpacked` and `scalars` are left to the caller.
  StateCodecArgs MomentumCodec(int bucket, const RunState& run,
                               RowRange rows) const;
  StateCodecArgs SecondMomentCodec(int bucket, const RunState& run,
                                   RowRange rows) const;

  // [params], in device memory: updates so far. Written by the decision.
  int64_t* steps() const { return static_cast<int64_t*>(steps_.get()); }

  // False where the next update must take the master from the weights.
  bool has_master(int param) const { return has_master_[param] != 0; }
  void SetHasMaster(int param, bool has) { has_master_[param] = has; }

  // What this rank has of `param`, by rows.
  std::vector<StateView> Views(int param) const;

  // Of `rows` of the parameter within the view; a check fails if they are not,
  // or are a part of a unit that is projected. Of a block that is only partly
  // in `rows` the slice has the scalar, too.
  StateView Slice(const StateView& view, RowRange rows) const;

  // Between steps, in the order of the compute stream; block until done or for
  // `patience`. Write() packs to the view's format without stochastic rounding
  // of what fits it: what was read leaves every bit as it was, except for int8
  // second moments, a group of which may come back by a step of its scale, so
  // moves between equal formats better copy rows as they rest. InvalidArgument,
  // with both, if sizes differ.
  absl::StatusOr<StateValues> Read(const StateView& view,
                                   absl::Duration patience) const;
  absl::Status Write(const StateView& view, const StateValues& values,
                     absl::Duration patience);
  absl::StatusOr<int64_t> ReadSteps(int param, absl::Duration patience) const;
  absl::Status WriteSteps(int param, int64_t steps, absl::Duration patience);

  // Enqueues, on the compute stream, the view's momentum, its second moments
  // and its column moments as fp32 at `out`, in device memory; advances it.
  absl::Status Unpack(const StateView& view, float** out) const;

 private:
  struct Part {  // A bucket's.
    ShardLayout layout;
    Buffer momentum;
    Buffer second_moment;
    Buffer master;
  };

  ShardState(const Plan& plan, ColumnState columns, Device& device)
      : plan_(&plan),
        columns_(std::move(columns)),
        device_(&device),
        has_master_(plan.params.size(), char{0}) {}

  static void* At(const Buffer& buffer, int64_t bytes) {
    return buffer == nullptr ? nullptr
                             : static_cast<char*>(buffer.get()) + bytes;
  }
  // Momentum or second moments of a bucket, and where a run's begin in bytes.
  struct StateMemory {
    const Buffer& buffer;
    int64_t values_at;
    int64_t scales_at;
    Rounded what;
  };
  static StateCodecArgs CodecOf(const RunState& run, RowRange rows,
                                const StateMemory& memory);
  absl::StatusOr<Part> MakePart(int bucket, int rank,
                                const OptimizerOptions& options) const;
  StateView ViewOf(int bucket, const RunState& run) const;
  void FillColumns(StateView* view) const;
  StateCodecArgs MomentumCodec(const StateView& view) const;
  StateCodecArgs SecondMomentCodec(const StateView& view) const;
  int64_t MomentCount(const StateView& view) const;
  int64_t ColumnCount(const StateView& view) const {
    return view.matrices * plan_->params[view.param].row_elements;
  }
  int64_t MasterSize(const StateView& view) const;  // Bytes.
  absl::Status CheckSizes(const StateView& view,
                          const StateValues& values) const;
  absl::Status Pack(const StateView& view, float* from) const;
  absl::Status Finish(absl::Duration patience) const;

  const Plan* plan_;
  ColumnState columns_;
  Device* device_;
  std::vector<Part> parts_;  // By bucket.
  Buffer steps_;
  std::vector<char> has_master_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_SHARD_STATE_H_
