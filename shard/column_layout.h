// ColumnLayout: where averages and sums over columns are, by the plan and the
// options alone.

#ifndef ZEROMINI_SHARD_COLUMN_LAYOUT_H_
#define ZEROMINI_SHARD_COLUMN_LAYOUT_H_

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "shard/shard_layout.h"
#include "zeromini/kernels.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Matrices that a rank has rows of.
class HeldMatrices {
 public:
  // Returns the columns of those that `run` is the first to have rows of.
  int64_t Add(const Plan& plan, const Run& run);
  // `matrix`: its index in MatricesOf().
  bool Has(int param, int64_t matrix) const {
    return held_.count({param, matrix}) > 0;
  }

 private:
  std::set<std::pair<int, int64_t>> held_;
};

// A rank keeps the columns of each matrix that it has rows of, and all ranks
// exchange the sums of all: those of dense parameters, then of each expert
// slice.
struct ColumnLayout {
  std::vector<ColumnMatrix> matrices;  // That this rank has rows of.
  int64_t local = 0;                   // Columns of these.
  int64_t shared = 0;                  // Columns of all.

  // In `local`, of a matrix of a parameter by its index in MatricesOf(); -1 if
  // this rank has no rows of it.
  int64_t LocalAt(int param, int64_t matrix) const;

  std::vector<int64_t> first_of_param;  // Into `local_at`.
  std::vector<int64_t> local_at;
};

// Of `rank` of the whole group.
ColumnLayout ColumnsOf(const Plan& plan, const OptimizerOptions& options,
                       int rank);

// ColumnLayout::shared.
int64_t SharedColumns(const Plan& plan, int expert_slices);

// Gives the spans of a bucket their columns_at.
void PlaceColumns(const ColumnLayout& columns, ShardLayout* layout);

// What a rank keeps of columns, in bytes.
struct ColumnBytes {
  int64_t moments = 0;
  int64_t digits = 0;  // Of sums, and their tops.
  int64_t tops = 0;
  int64_t factors = 0;
  int64_t agreed = 0;  // The tops that ranks agree on.
  int64_t matrices = 0;

  int64_t statistics() const { return digits + tops + factors; }
  int64_t tables() const { return agreed + matrices; }
};
ColumnBytes BytesOf(const ColumnLayout& columns);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_COLUMN_LAYOUT_H_
