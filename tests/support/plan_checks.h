// What must hold of every plan, checked from the plan alone. Blocks and units
// are counted here row by row pattern, not by the planner's own arithmetic.

#ifndef ZEROMINI_TESTS_SUPPORT_PLAN_CHECKS_H_
#define ZEROMINI_TESTS_SUPPORT_PLAN_CHECKS_H_

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "shard/layout_cost.h"
#include "shard/units.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace internal {

inline int64_t SizeOfTensor(const PlannedParam& param) {
  return param.rows * param.row_elements;
}

inline int64_t RowsEach(const BlockSegment& segment) {
  return segment.rows_per_block;
}
inline int64_t RowsEach(const UnitSegment& segment) {
  return segment.rows_per_unit;
}

// The block or unit that a row lies in.
struct Piece {
  int64_t index = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
};
template <typename Segment>
Piece PieceAt(const std::vector<Segment>& pattern, int64_t row) {
  int64_t period = 0, pieces = 0;
  for (const Segment& segment : pattern) {
    period += segment.rows;
    pieces += segment.rows / RowsEach(segment);
  }
  Piece piece{row / period * pieces, row / period * period, 0};
  for (const Segment& segment : pattern) {
    piece.rows = RowsEach(segment);
    if (row < piece.first_row + segment.rows) {
      const int64_t skipped = (row - piece.first_row) / piece.rows;
      piece.index += skipped;
      piece.first_row += skipped * piece.rows;
      break;
    }
    piece.index += segment.rows / piece.rows;
    piece.first_row += segment.rows;
  }
  return piece;
}

template <typename Segment>
bool IsEdge(const PlannedParam& param, const std::vector<Segment>& pattern,
            int64_t row) {
  return row == param.rows || PieceAt(pattern, row).first_row == row;
}

// Rows in a segment, in order, without overlap and inside it.
inline void CheckSegment(const Plan& plan, const BucketPlan& bucket, int rank) {
  int64_t end = 0, wire_end = 0;
  for (const Run& run : bucket.runs[rank]) {
    const PlannedParam& param = plan.params[run.param];
    ASSERT_GT(run.rows, 0);
    ASSERT_GE(run.offset, end);
    ASSERT_GE(run.wire_offset, wire_end);
    ASSERT_EQ(run.wire_elements, WireElements(param, run.first_row, run.rows));
    ASSERT_EQ(run.state_elements,
              StateElements(param, run.first_row, run.rows));
    end = run.offset + run.rows * param.row_elements;
    wire_end = run.wire_offset + run.wire_elements;
  }
  EXPECT_LE(end, bucket.segment);
  EXPECT_LE(wire_end, bucket.wire_segment);
}

// By first row: rows.
using RowsFrom = std::map<int64_t, int64_t>;

inline void ExpectRowsOnce(const RowsFrom& pieces, int64_t first,
                           int64_t rows) {
  int64_t row = first;
  for (const auto& [from, count] : pieces) {
    EXPECT_EQ(from, row);
    row = from + count;
  }
  EXPECT_EQ(row, first + rows);
}

// A part is the rows of the runs: each row of it has one owner.
inline void CheckParts(const Plan& plan, const BucketPlan& bucket) {
  ASSERT_FALSE(bucket.parts.empty());
  std::map<int, RowsFrom> owned;
  for (const std::vector<Run>& runs : bucket.runs) {
    for (const Run& run : runs) {
      EXPECT_TRUE(owned[run.param].emplace(run.first_row, run.rows).second);
    }
  }
  EXPECT_EQ(owned.size(), bucket.parts.size());
  int64_t elements = 0, wire_elements = 0;
  int before = -1;
  for (const Part& part : bucket.parts) {
    EXPECT_GT(part.param, before);
    before = part.param;
    const PlannedParam& param = plan.params[part.param];
    ExpectRowsOnce(owned[part.param], part.first_row, part.rows);
    elements += part.rows * param.row_elements;
    wire_elements += WireElements(param, part.first_row, part.rows);
  }
  EXPECT_EQ(bucket.elements, elements);
  EXPECT_EQ(bucket.wire_elements, wire_elements);
}

// PlannedParam::buckets, by row, are those with parts of it, and the parts are
// all its rows once.
inline void CheckBucketsOf(const Plan& plan, int index) {
  const PlannedParam& param = plan.params[index];
  std::map<int64_t, int> by_row;
  RowsFrom rows;
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    for (const Part& part : plan.buckets[b].parts) {
      if (part.param != index) continue;
      EXPECT_TRUE(by_row.emplace(part.first_row, static_cast<int>(b)).second);
      rows[part.first_row] = part.rows;
    }
  }
  std::vector<int> buckets;
  for (const auto& entry : by_row) buckets.push_back(entry.second);
  EXPECT_EQ(param.buckets, buckets);
  const bool trained = !param.frozen && param.tied_to < 0;
  EXPECT_EQ(param.has_state(), trained);
  EXPECT_EQ(param.region >= 0, trained);
  if (trained) ExpectRowsOnce(rows, 0, param.rows);
}

inline void CheckKinds(const Plan& plan, const BucketPlan& bucket) {
  for (const Part& part : bucket.parts) {
    const PlannedParam& param = plan.params[part.param];
    EXPECT_EQ(param.dtype, bucket.dtype);
    EXPECT_EQ(param.expert, bucket.expert);
    if (plan.options.stage == 3) {
      EXPECT_EQ(param.layer_set, bucket.layer_set);
    }
  }
}

// In place, a row's place in the bucket is that of its tensor in the region,
// and nothing else of the region lies there.
inline void CheckInPlace(const Plan& plan, const BucketPlan& bucket) {
  const int64_t begin = bucket.region_offset;
  const int64_t end = begin + bucket.segment * plan.options.ranks;
  EXPECT_EQ(bucket.wire_segment, bucket.segment);
  int64_t elements = 0;
  for (const PlannedParam& param : plan.params) {
    if (param.region != bucket.region) continue;
    const int64_t first = std::max(begin, param.region_offset);
    const int64_t stop =
        std::min(end, param.region_offset + SizeOfTensor(param));
    elements += std::max<int64_t>(stop - first, 0);
  }
  EXPECT_EQ(bucket.elements, elements);
  for (size_t rank = 0; rank < bucket.runs.size(); ++rank) {
    const int64_t segment = begin + static_cast<int64_t>(rank) * bucket.segment;
    for (const Run& run : bucket.runs[rank]) {
      const PlannedParam& param = plan.params[run.param];
      EXPECT_FALSE(param.transposed);
      EXPECT_TRUE(HasPlainUnits(param));
      EXPECT_EQ(param.region, bucket.region);
      EXPECT_EQ(param.region_offset + run.first_row * param.row_elements,
                segment + run.offset);
    }
  }
}

// Tensors of a region do not overlap; between them is nothing, unless buckets
// were made by layer, which may leave room so that cuts are edges of units.
inline void CheckTensorsOf(const Plan& plan, int index, bool may_pad) {
  const RegionPlan& region = plan.regions[index];
  std::map<int64_t, int64_t> tensors;
  for (const PlannedParam& param : plan.params) {
    if (param.region != index) continue;
    EXPECT_TRUE(
        tensors.emplace(param.region_offset, SizeOfTensor(param)).second);
    EXPECT_EQ(param.dtype, region.dtype);
    EXPECT_EQ(param.expert, region.expert);
    if (plan.options.stage == 3) {
      EXPECT_EQ(param.layer_set, region.layer_set);
    }
  }
  EXPECT_FALSE(tensors.empty());
  int64_t end = 0;
  for (const auto& [offset, elements] : tensors) {
    EXPECT_TRUE(offset == end || (may_pad && offset > end))
        << offset << " after " << end;
    end = offset + elements;
  }
  EXPECT_LE(end, region.elements);
}

// A region is its buckets in place, one after another, or one packed tensor.
inline void CheckRegion(const Plan& plan, int index) {
  std::map<int64_t, int64_t> buckets;
  bool by_layer = false;
  for (const BucketPlan& bucket : plan.buckets) {
    if (bucket.region != index) continue;
    by_layer = by_layer || bucket.reason == BucketReason::kLayer;
    EXPECT_TRUE(
        buckets
            .emplace(bucket.region_offset, bucket.segment * plan.options.ranks)
            .second);
  }
  CheckTensorsOf(plan, index, by_layer);
  const int64_t elements = plan.regions[index].elements;
  if (!buckets.empty()) {
    ExpectRowsOnce(buckets, 0, elements);
    return;
  }
  int64_t held = 0;
  for (const PlannedParam& param : plan.params) {
    if (param.region == index) held += SizeOfTensor(param);
  }
  EXPECT_EQ(held, elements);
}

// A block of so many elements cannot be whole on one rank of this bucket: it is
// larger than a rank's share of it, or than its share of the largest buffer.
inline bool CannotBeWhole(const Plan& plan, const BucketPlan& bucket,
                          int64_t block_elements) {
  const int64_t ranks = plan.options.ranks;
  if (block_elements * ranks > bucket.elements) return true;
  const bool in_buffer =
      !bucket.in_place() || !HasGradientHome(plan.options, bucket.dtype);
  return in_buffer && block_elements > LargestBuffered(plan.options) / ranks;
}

// Units stay whole but where blocks may be cut. Adds the blocks that the run
// has a part of.
inline void CheckCuts(const Plan& plan, const BucketPlan& bucket,
                      const Run& run, std::set<std::pair<int, int64_t>>* cut) {
  const PlannedParam& param = plan.params[run.param];
  const int64_t end = run.first_row + run.rows;
  if (param.blocks.empty() || !HasPlainUnits(param)) {
    EXPECT_TRUE(IsEdge(param, param.units, run.first_row)) << param.name;
    EXPECT_TRUE(IsEdge(param, param.units, end)) << param.name;
    if (param.blocks.empty()) return;
  }
  for (const int64_t row : {run.first_row, end - 1}) {
    const Piece block = PieceAt(param.blocks, row);
    const bool whole =
        block.first_row >= run.first_row && block.first_row + block.rows <= end;
    if (whole) continue;
    cut->insert({run.param, block.index});
    if (plan.options.blocks == BlockCuts::kSplitAtCuts) continue;
    EXPECT_TRUE(HasPlainUnits(param)) << param.name;
    EXPECT_TRUE(CannotBeWhole(plan, bucket, block.rows * param.row_elements))
        << param.name << ": block " << block.index << " of "
        << block.rows * param.row_elements << " elements, bucket of "
        << bucket.elements;
  }
}

inline void CheckBlocks(const Plan& plan) {
  std::set<std::pair<int, int64_t>> cut;
  for (const BucketPlan& bucket : plan.buckets) {
    for (const std::vector<Run>& runs : bucket.runs) {
      for (const Run& run : runs) CheckCuts(plan, bucket, run, &cut);
    }
  }
  std::set<std::pair<int, int64_t>> listed;
  for (const SplitBlock& split : plan.split_blocks) {
    EXPECT_TRUE(listed.emplace(split.param, split.block).second);
  }
  EXPECT_EQ(cut, listed);
}

// Elements of one unit on each rank: of whole units; of rows, where a unit may
// be cut and its share of the largest buffer is less; of the whole tensor,
// where a method projects it.
inline int64_t OneOnEachRank(const Plan& plan, const PlannedParam& param) {
  const int64_t ranks = plan.options.ranks;
  if (!HasPlainUnits(param)) return ranks * SizeOfTensor(param);
  const bool may_split = !param.blocks.empty() && MatricesOf(param).empty();
  int64_t largest = 0;
  for (const UnitSegment& unit : param.units) {
    int64_t own = ranks * unit.rows_per_unit * param.row_elements;
    const bool whole = plan.options.blocks == BlockCuts::kWhole &&
                       own <= LargestBuffered(plan.options);
    if (may_split && !whole) own = ranks * param.row_elements;
    largest = std::max(largest, own);
  }
  return largest;
}

// Of the units that the largest buffer holds, elements of the largest: such a
// unit is in one bucket, though ranks may share it.
inline int64_t LargestInABuffer(const Plan& plan, const PlannedParam& param) {
  int64_t largest = 0;
  for (const UnitSegment& unit : param.units) {
    const int64_t own = unit.rows_per_unit * param.row_elements;
    if (own <= LargestBuffered(plan.options)) largest = std::max(largest, own);
  }
  return largest;
}

}  // namespace internal

// Every element has one owner, and lies where the plan says; blocks and units
// are whole where they can be, and what is cut is listed.
inline void CheckPlan(const Plan& plan) {
  for (const BucketPlan& bucket : plan.buckets) {
    ASSERT_EQ(bucket.runs.size(), static_cast<size_t>(plan.options.ranks));
    for (int rank = 0; rank < plan.options.ranks; ++rank) {
      internal::CheckSegment(plan, bucket, rank);
    }
    internal::CheckParts(plan, bucket);
    internal::CheckKinds(plan, bucket);
    if (bucket.in_place()) internal::CheckInPlace(plan, bucket);
  }
  for (size_t p = 0; p < plan.params.size(); ++p) {
    internal::CheckBucketsOf(plan, static_cast<int>(p));
  }
  for (size_t r = 0; r < plan.regions.size(); ++r) {
    internal::CheckRegion(plan, static_cast<int>(r));
  }
  internal::CheckBlocks(plan);
}

// A buffer that gradients go through takes no more than half of the budget, or
// than one unit on each rank: in place, of what lies in the bucket's region;
// packed, of the bucket, and up to twice that as padding, or half of the budget
// and such a unit on each rank as padding. Nothing bounds how
// many fill at a time: of each dtype and layer set, and of each size of unit,
// one does, and of a tied tensor all.
inline void CheckBufferOf(const Plan& plan, const BucketPlan& bucket) {
  int64_t least = 0;
  for (const PlannedParam& param : plan.params) {
    if (!bucket.in_place() || param.region != bucket.region) continue;
    least = std::max(least, internal::OneOnEachRank(plan, param));
  }
  for (const Part& part : bucket.parts) {
    if (bucket.in_place()) break;
    const PlannedParam& param = plan.params[part.param];
    const int64_t one = internal::OneOnEachRank(plan, param);
    least = std::max({least, 3 * one, LargestBuffered(plan.options) + one,
                      3 * internal::LargestInABuffer(plan, param)});
  }
  EXPECT_LE(BufferedElements(bucket, plan.options),
            std::max(LargestBuffered(plan.options), least));
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_PLAN_CHECKS_H_
