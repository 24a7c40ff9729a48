#include "shard/bucket_layout.h"

#include <algorithm>
#include <cmath>

#include "shard/layout_cost.h"
#include "shard/units.h"
#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

using Slices = absl::Span<const Slice>;

bool Projects(Slices slices) {
  return !std::all_of(slices.begin(), slices.end(), [](const Slice& slice) {
    return HasPlainUnits(*slice.param);
  });
}

bool HasTransposed(Slices slices) {
  return std::any_of(slices.begin(), slices.end(), [](const Slice& slice) {
    return slice.param->transposed;
  });
}

BucketReason WhyPacked(Slices slices) {
  if (Projects(slices)) return BucketReason::kProjected;
  if (HasTransposed(slices)) return BucketReason::kTransposed;
  return BucketReason::kPacked;
}

BucketLayout CutLayout(Slices slices, InPlaceCuts cuts, int ranks) {
  BucketLayout layout;
  BucketPlan& plan = layout.plan;
  plan = StartBucket(slices);
  plan.reason = BucketReason::kLayer;
  plan.region = 0;
  plan.segment = plan.wire_segment = cuts.segment;
  plan.runs.resize(ranks);
  for (size_t i = 0; i < slices.size(); ++i) {
    const int64_t begin = cuts.param_offset[i];
    const int64_t row_elements = slices[i].param->row_elements;
    const int64_t end = begin + slices[i].elements();
    for (int64_t at = begin; at < end;) {
      const int64_t rank = at / cuts.segment;
      const int64_t stop = std::min(end, (rank + 1) * cuts.segment);
      ZEROMINI_CHECK((stop - at) % row_elements == 0);
      AddPlainRun(static_cast<int>(rank),
                  {slices[i].param, (at - begin) / row_elements,
                   (stop - at) / row_elements},
                  static_cast<int>(i), at - rank * cuts.segment, &plan);
      at = stop;
    }
  }
  layout.offsets = std::move(cuts.param_offset);
  layout.splits = SplitsOf(slices, plan);
  return layout;
}

// The largest segment whose padding costs no more than packing does: two
// collectives pad, of fp32 gradients and of weights.
int64_t LargestSegment(const BucketPlan& packed, const PlanOptions& options) {
  BucketPlan in_place = packed;
  in_place.region = 0;
  const double spared = CostOf(packed, options) - CostOf(in_place, options);
  const double per_element =
      (SizeOf(DType::kFloat32) + SizeOf(packed.dtype)) *
      static_cast<double>(std::max(options.ranks - 1, 1));
  return packed.segment +
         static_cast<int64_t>(std::floor(spared / per_element));
}

BucketLayout MakeLayout(Slices slices, const PlanOptions& options) {
  BucketLayout packed = PackBucket(slices, options);
  if (packed.plan.reason != BucketReason::kPacked) return packed;
  std::optional<InPlaceCuts> cuts =
      CutInPlace(slices, StretchesOf(slices, options.ranks, options.blocks),
                 options.ranks, LargestSegment(packed.plan, options));
  if (!cuts.has_value()) return packed;
  return CutLayout(slices, *std::move(cuts), options.ranks);
}

std::vector<int64_t> SignatureOf(Slices slices) {
  std::vector<int64_t> signature;
  for (const Slice& slice : slices) {
    const PlannedParam& param = *slice.param;
    signature.insert(signature.end(),
                     {slice.rows, param.row_elements, param.transposed,
                      static_cast<int64_t>(param.dtype), param.expert,
                      static_cast<int64_t>(param.blocks.size()),
                      static_cast<int64_t>(param.units.size())});
    for (const BlockSegment& segment : param.blocks) {
      signature.insert(signature.end(), {segment.rows, segment.rows_per_block,
                                         static_cast<int64_t>(segment.form)});
    }
    for (const UnitSegment& segment : param.units) {
      signature.insert(signature.end(),
                       {segment.rows, segment.rows_per_unit,
                        segment.wire_elements, segment.state_elements});
    }
  }
  return signature;
}

}  // namespace

BucketPlan StartBucket(Slices slices) {
  BucketPlan plan;
  plan.dtype = slices.front().param->dtype;
  plan.expert = slices.front().param->expert;
  for (size_t i = 0; i < slices.size(); ++i) {
    const Slice& slice = slices[i];
    plan.parts.push_back({static_cast<int>(i), slice.first_row, slice.rows});
    plan.elements += slice.elements();
    plan.wire_elements +=
        WireElements(*slice.param, slice.first_row, slice.rows);
  }
  return plan;
}

void AddPlainRun(int rank, const Slice& rows, int position, int64_t offset,
                 BucketPlan* plan) {
  const int64_t elements = rows.elements();
  plan->runs[rank].push_back({position, rows.first_row, rows.rows, offset,
                              offset, elements, elements});
}

std::vector<SplitBlock> SplitsOf(Slices slices, const BucketPlan& plan) {
  std::vector<SplitBlock> splits;
  for (const std::vector<Run>& runs : plan.runs) {
    for (const Run& run : runs) {
      const PlannedParam& param = *slices[run.param].param;
      if (param.blocks.empty()) continue;
      const BlockPlace first = PlaceOf(param.blocks, run.first_row);
      if (first.first_row != run.first_row) {
        splits.push_back({run.param, first.block});
      }
      const int64_t last_row = run.first_row + run.rows - 1;
      const BlockPlace last = PlaceOf(param.blocks, last_row);
      if (last.first_row + last.rows != last_row + 1) {
        splits.push_back({run.param, last.block});
      }
    }
  }
  const auto key = [](const SplitBlock& s) {
    return std::make_pair(s.param, s.block);
  };
  std::sort(splits.begin(), splits.end(),
            [&](const auto& a, const auto& b) { return key(a) < key(b); });
  splits.erase(std::unique(splits.begin(), splits.end(),
                           [&](const auto& a, const auto& b) {
                             return key(a) == key(b);
                           }),
               splits.end());
  return splits;
}

BucketLayout PackBucket(Slices slices, const PlanOptions& options) {
  const Packing packing = PackUnits(
      StretchesOf(slices, options.ranks, options.blocks), options.ranks);
  BucketLayout layout;
  BucketPlan& plan = layout.plan;
  plan = StartBucket(slices);
  plan.reason = WhyPacked(slices);
  plan.segment = packing.segment;
  for (const std::vector<PackedPiece>& pieces : packing.pieces) {
    std::vector<Run> runs;
    Run next;
    for (const PackedPiece& piece : pieces) {
      next.param = piece.param;
      next.first_row = piece.first_row;
      next.rows = piece.rows;
      const PlannedParam& param = *slices[piece.param].param;
      next.wire_elements = WireElements(param, piece.first_row, piece.rows);
      next.state_elements = StateElements(param, piece.first_row, piece.rows);
      runs.push_back(next);
      next.offset += piece.rows * param.row_elements;
      next.wire_offset += next.wire_elements;
    }
    plan.wire_segment = std::max(plan.wire_segment, next.wire_offset);
    plan.runs.push_back(std::move(runs));
  }
  if (!Projects(slices)) plan.wire_segment = plan.segment;
  layout.splits = SplitsOf(slices, plan);
  return layout;
}

double BucketLayout::PaddingFraction() const {
  const double held = static_cast<double>(plan.segment) * plan.runs.size();
  return held / static_cast<double>(plan.elements) - 1;
}

const BucketLayout& LayoutCache::LayoutOf(Slices slices) {
  auto [at, inserted] = layouts_.try_emplace(SignatureOf(slices));
  if (inserted) at->second = MakeLayout(slices, options_);
  return at->second;
}

}  // namespace zeromini
