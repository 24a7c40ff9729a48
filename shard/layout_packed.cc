#include <algorithm>
#include <utility>
#include <vector>

#include "shard/layout_cost.h"
#include "shard/set_layout.h"
#include "shard/units.h"

namespace zeromini {
namespace {

// Slices, and the parameters they are of, alike.
struct Batch {
  std::vector<Slice> slices;
  std::vector<int> indices;
  int64_t elements = 0;

  void Add(const Slice& slice, int index) {
    slices.push_back(slice);
    indices.push_back(index);
    elements += slice.elements();
  }
};

// So that a unit is no larger than a rank's share; unless that takes more than
// a buffer may, and it can be split, which leaves at least a row for each.
int64_t RoomFor(const PlannedParam& param, const PlanOptions& options,
                int64_t bucket_elements) {
  const bool may_split = MaySplit(param);
  int64_t largest = param.row_elements;
  if (!may_split || options.blocks == BlockCuts::kWhole) {
    for (const UnitSegment& unit : param.units) {
      largest = std::max(largest, unit.rows_per_unit * param.row_elements);
    }
  }
  const int64_t whole = largest * options.ranks;
  const bool kept = !may_split || whole <= LargestBuffered(options);
  return std::max(bucket_elements,
                  kept ? whole : param.row_elements * options.ranks);
}

// What buckets are cut between: units, but rows of one that may be anywhere, or
// that would be larger than a buffer may be.
std::vector<Stretch> PiecesOf(const Slice& slice, const PlanOptions& options) {
  std::vector<Stretch> pieces = UnitsOf(slice, 0);
  if (!MaySplit(*slice.param)) return pieces;
  for (Stretch& piece : pieces) {
    const bool whole = options.blocks == BlockCuts::kWhole &&
                       piece.unit_elements <= LargestBuffered(options);
    if (!whole) piece = RowsOf(piece);
  }
  return pieces;
}

// The row, counted in whole pieces, that is no more than `elements` after
// `first_row`; at least one piece on. Pieces that go on behind it are as many
// on each rank: one more would make all shares larger by it.
int64_t CutAfter(const PlannedParam& param, int64_t first_row, int64_t elements,
                 const PlanOptions& options) {
  const Slice rest = {&param, first_row, param.rows - first_row};
  int64_t row = first_row;
  for (const Stretch& stretch : PiecesOf(rest, options)) {
    const int64_t room = elements - (row - first_row) * param.row_elements;
    int64_t units = std::min(
        stretch.units, std::max<int64_t>(room, 0) / stretch.unit_elements);
    if (units < stretch.units && units > options.ranks) {
      units -= units % options.ranks;
    }
    const int64_t least = row == first_row ? 1 : 0;
    row += std::max(units, least) * stretch.unit_rows;
    if (units < stretch.units) break;
  }
  return row;
}

SetLayout PackInBuckets(const ParamSet& set, const PlanOptions& options,
                        int64_t bucket_elements) {
  SetLayout layout;
  Batch batch;
  const auto flush = [&] {
    if (batch.slices.empty()) return;
    layout.AddBucket(PackBucket(batch.slices, options), batch.indices);
    batch = Batch();
  };
  for (int index : set.indices) {
    const PlannedParam& param = set.params[index];
    const int64_t elements = Elements(param);
    layout.homes.push_back({index, layout.AddRegion(elements), 0});
    const int64_t room = RoomFor(param, options, bucket_elements);
    if (batch.elements + elements > room) flush();
    int64_t row = 0;
    while (HasPlainUnits(param) &&
           (param.rows - row) * param.row_elements > room) {
      const int64_t end = CutAfter(param, row, room, options);
      if (end == param.rows) break;
      batch.Add({&param, row, end - row}, index);
      flush();
      row = end;
    }
    batch.Add({&param, row, param.rows - row}, index);
  }
  flush();
  return layout;
}

}  // namespace

SetLayout LayOutPacked(const ParamSet& set, const PlanOptions& options,
                       int64_t bucket_elements) {
  SetLayout best = PackInBuckets(set, options, bucket_elements);
  if (options.bucket_bytes > 0) return best;
  const int64_t most = std::min(LargestBuffered(options), 2 * set.elements());
  // A rank's share is then more rows, of which it can have more nearly as many
  // as the others.
  for (int64_t elements = bucket_elements; elements <= most / 2;) {
    elements *= 2;
    SetLayout larger = PackInBuckets(set, options, elements);
    if (!FitsBuffers(larger, options)) continue;
    const bool splits_less = larger.splits.size() < best.splits.size();
    const bool costs_less =
        CostOf(larger, set, options) < CostOf(best, set, options) &&
        larger.splits.size() == best.splits.size();
    if (splits_less || costs_less) best = std::move(larger);
  }
  return best;
}

}  // namespace zeromini
