#include "shard/tiles.h"

#include <algorithm>

#include "shard/shard_format.h"

namespace zeromini {
namespace {

// Some unit of it is more than a row, or its counts are not those at rest.
bool MayBeOneTile(const PlannedParam& param) {
  return param.element_state &&
         !std::all_of(param.units.begin(), param.units.end(),
                      [&](const UnitSegment& unit) {
                        return unit.rows_per_unit == 1 &&
                               unit.wire_elements == param.row_elements &&
                               unit.state_elements == param.row_elements;
                      });
}

}  // namespace

bool IsOneTile(const PlannedParam& param, const Run& run) {
  const int64_t elements = run.rows * param.row_elements;
  const bool plain =
      run.wire_elements == elements && run.state_elements == elements;
  const bool by_rows = std::all_of(
      param.units.begin(), param.units.end(),
      [](const UnitSegment& unit) { return unit.rows_per_unit == 1; });
  return param.element_state && !(plain && by_rows);
}

int64_t LargestTile(const Plan& plan, const OptimizerOptions& options) {
  if (!HasCodedShards(plan, options)) return 0;
  int64_t elements = kTileElements;
  std::vector<char> one_tile(plan.params.size(), 0);
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    if (!param.has_state()) continue;
    elements = std::max(elements, param.row_elements);
    if (!FormatOf(param, options).plain() && MayBeOneTile(param)) {
      one_tile[p] = 1;
    }
  }
  if (std::count(one_tile.begin(), one_tile.end(), 1) == 0) return elements;
  for (const BucketPlan& bucket : plan.buckets) {
    for (const std::vector<Run>& runs : bucket.runs) {
      for (const Run& run : runs) {
        const PlannedParam& param = plan.params[run.param];
        if (!one_tile[run.param] || !IsOneTile(param, run)) continue;
        elements = std::max(elements, run.rows * param.row_elements);
      }
    }
  }
  return elements;
}

}  // namespace zeromini
