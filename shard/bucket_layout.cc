#include "shard/bucket_layout.h"

#include <algorithm>
#include <cmath>

#include "shard/units.h"
#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

using Params = absl::Span<const PlannedParam* const>;

bool Projects(Params params) {
  return !std::all_of(params.begin(), params.end(),
                      [](const PlannedParam* p) { return HasPlainUnits(*p); });
}

bool MayCutInPlace(Params params) {
  return !Projects(params) &&
         std::none_of(params.begin(), params.end(),
                      [](const PlannedParam* p) { return p->transposed; });
}

void FillInPlace(Params params, InPlaceCuts cuts, int ranks, BucketPlan* plan) {
  plan->in_place = true;
  plan->segment = plan->wire_segment = cuts.segment;
  plan->runs.resize(ranks);
  for (size_t i = 0; i < params.size(); ++i) {
    const int64_t begin = cuts.param_offset[i];
    const int64_t row_elements = params[i]->row_elements;
    const int64_t end = begin + params[i]->rows * row_elements;
    for (int64_t at = begin; at < end;) {
      const int64_t rank = at / cuts.segment;
      const int64_t stop = std::min(end, (rank + 1) * cuts.segment);
      ZEROMINI_CHECK((stop - at) % row_elements == 0);
      const int64_t offset = at - rank * cuts.segment;
      plan->runs[rank].push_back(
          {static_cast<int>(i), (at - begin) / row_elements,
           (stop - at) / row_elements, offset, offset, stop - at, stop - at});
      at = stop;
    }
  }
  plan->param_offset = std::move(cuts.param_offset);
}

void FillPacked(Params params, const Packing& packing, BucketPlan* plan) {
  plan->in_place = false;
  plan->segment = packing.segment;
  plan->wire_segment = 0;
  for (const std::vector<PackedPiece>& pieces : packing.pieces) {
    std::vector<Run> runs;
    Run next;
    for (const PackedPiece& piece : pieces) {
      next.param = piece.param;
      next.first_row = piece.first_row;
      next.rows = piece.rows;
      const PlannedParam& param = *params[piece.param];
      next.wire_elements = WireElements(param, piece.first_row, piece.rows);
      next.state_elements = StateElements(param, piece.first_row, piece.rows);
      runs.push_back(next);
      next.offset += piece.rows * param.row_elements;
      next.wire_offset += next.wire_elements;
    }
    plan->wire_segment = std::max(plan->wire_segment, next.wire_offset);
    plan->runs.push_back(std::move(runs));
  }
  if (!Projects(params)) plan->wire_segment = plan->segment;
}

std::vector<SplitBlock> FindSplits(Params params, const BucketPlan& plan) {
  std::vector<SplitBlock> splits;
  for (const std::vector<Run>& runs : plan.runs) {
    for (const Run& run : runs) {
      const PlannedParam& param = *params[run.param];
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

BucketLayout MakeLayout(Params params, const PlanOptions& options) {
  BucketLayout layout;
  for (const PlannedParam* param : params) {
    layout.plan.elements += param->rows * param->row_elements;
    layout.plan.wire_elements += WireElements(*param, 0, param->rows);
  }
  const std::vector<Stretch> stretches = StretchesOf(params, options.ranks);
  const Packing packing = PackUnits(stretches, options.ranks);
  std::optional<InPlaceCuts> cuts;
  if (MayCutInPlace(params)) {
    const double allowed = layout.plan.elements *
                           (1 + options.max_in_place_padding) / options.ranks;
    // Never worse than packing, even where rows are too few for the limit.
    cuts = CutInPlace(
        params, stretches, options.ranks,
        std::max(packing.segment, static_cast<int64_t>(std::floor(allowed))));
  }
  if (cuts.has_value()) {
    FillInPlace(params, *std::move(cuts), options.ranks, &layout.plan);
  } else {
    FillPacked(params, packing, &layout.plan);
  }
  layout.splits = FindSplits(params, layout.plan);
  return layout;
}

std::vector<int64_t> SignatureOf(Params params) {
  std::vector<int64_t> signature;
  for (const PlannedParam* param : params) {
    signature.insert(signature.end(),
                     {param->rows, param->row_elements, param->transposed,
                      static_cast<int64_t>(param->blocks.size()),
                      static_cast<int64_t>(param->units.size())});
    for (const BlockSegment& segment : param->blocks) {
      signature.insert(signature.end(), {segment.rows, segment.rows_per_block});
    }
    for (const UnitSegment& segment : param->units) {
      signature.insert(signature.end(),
                       {segment.rows, segment.rows_per_unit,
                        segment.wire_elements, segment.state_elements});
    }
  }
  return signature;
}

}  // namespace

double BucketLayout::PaddingFraction() const {
  const double held = static_cast<double>(plan.segment) * plan.runs.size();
  return held / static_cast<double>(plan.elements) - 1;
}

const BucketLayout& LayoutCache::LayoutOf(Params params) {
  auto [at, inserted] = layouts_.try_emplace(SignatureOf(params));
  if (inserted) at->second = MakeLayout(params, options_);
  return at->second;
}

}  // namespace zeromini
