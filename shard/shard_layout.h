// ShardLayout: where the state of each run of a rank's segment is, by the plan
// and the formats alone.

#ifndef ZEROMINI_SHARD_SHARD_LAYOUT_H_
#define ZEROMINI_SHARD_SHARD_LAYOUT_H_

#include <cstdint>
#include <vector>

#include "shard/shard_format.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// A span of blocks in a run, and where its second moments and sums are.
struct SpanState {
  BlockSpan span;
  int64_t second_moment_offset = 0;  // Into the bucket's block scalars.
  int64_t sums_offset = 0;           // Into the bucket's block sums.
  int split = -1;                    // Index into Plan::split_blocks, or -1.
  // Of its matrix, in ColumnLayout's local columns: see PlaceColumns().
  int64_t columns_at = -1;
};

// What is projected has no rows of its own. On the wire or in the state, as
// `count` says, it is taken as rows of as many elements as divide every unit,
// so that none is of two units, whoever has which.
int64_t ProjectedRowElements(const PlannedParam& param,
                             int64_t UnitSegment::*count);

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

  // Unless it is projected, state has the rows at rest.
  bool projected() const {
    return run->state_elements != run->rows * param->row_elements;
  }
  int64_t state_rows() const {
    return run->state_elements / state_row_elements();
  }
  int64_t state_row_elements() const {
    return projected()
               ? ProjectedRowElements(*param, &UnitSegment::state_elements)
               : param->row_elements;
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

// Momentum, second moments and master of one run; a master that is laid out as
// the segment is left out.
int64_t StateBytesOf(const Plan& plan, const Run& run,
                     const OptimizerOptions& options);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_SHARD_LAYOUT_H_
