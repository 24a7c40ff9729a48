// ShardLayout: where the state of each run of a rank's segment is, by the plan
// and the formats alone.

#ifndef ZEROMINI_RUNTIME_STATE_SHARD_LAYOUT_H_
#define ZEROMINI_RUNTIME_STATE_SHARD_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "runtime/state/shard_format.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// A span of blocks in a run, and where its second moments and sums are.
struct SpanState {
  BlockSpan span;
  int64_t second_moment_offset = 0;  // Into the bucket's block scalars.
  int64_t sums_offset = 0;           // Into the bucket's block sums.
  int split = -1;                    // Index into Plan::split_blocks, or -1.
};

struct RunState {
  const Run* run = nullptr;
  const PlannedParam* param = nullptr;
  ShardFormat format;
  std::vector<SpanState> spans;  // Empty if param->element_state.
  // Where its values and scales begin, in bytes, in the bucket's momentum,
  // second moments (of element_state only) and master.
  int64_t momentum_at = 0;
  int64_t momentum_scales_at = 0;
  int64_t second_moment_at = 0;
  int64_t second_moment_scales_at = 0;
  int64_t master_at = 0;

  // What is projected is kept as one row; else rows are those at rest.
  bool projected() const {
    return run->state_elements != run->rows * param->row_elements;
  }
  int64_t state_rows() const { return projected() ? 1 : run->rows; }
  int64_t state_row_elements() const {
    return projected() ? run->state_elements : param->row_elements;
  }
  // v is kept, per element.
  bool element_moments() const {
    return param->element_state && param->keeps_second_moment();
  }
};

// What one rank keeps of one bucket. Points into the plan.
struct ShardLayout {
  std::vector<RunState> runs;
  int64_t momentum_bytes = 0;
  int64_t second_moment_bytes = 0;  // Block scalars first.
  int64_t master_bytes = 0;
  bool master_is_segment = false;  // See ShardFormat.
  int64_t block_sums = 0;
  std::vector<int> splits;  // Indices into Plan::split_blocks, once each.
};

ShardLayout LayoutOf(const Plan& plan, int bucket, int rank,
                     const OptimizerOptions& options);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_SHARD_LAYOUT_H_
