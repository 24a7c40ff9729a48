#include <algorithm>
#include <vector>

#include "shard/column_layout.h"
#include "shard/decision_layout.h"
#include "shard/exchange_buffers.h"
#include "shard/exchange_places.h"
#include "shard/gather_passes.h"
#include "shard/layout_cost.h"
#include "shard/rank_place.h"
#include "shard/shard_layout.h"
#include "shard/stages.h"
#include "shard/sum_spans.h"
#include "shard/tiles.h"
#include "shard/units.h"
#include "zeromini/plan_bytes.h"

namespace zeromini {
namespace {

// What lies on a rank from the start: weights, and gradients that backward may
// write in place.
void AddHomes(const Plan& plan, const OptimizerOptions& options,
              MemoryReport* report) {
  if (options.memory == MemoryForm::kExternal) return;
  const bool shards = KeepsWeightShards(options);
  const std::vector<char> keeps_gradients = KeepsGradients(plan);
  for (size_t r = 0; r < plan.regions.size() && !shards; ++r) {
    const RegionPlan& region = plan.regions[r];
    report->weights += region.elements * SizeOf(region.dtype);
    if (keeps_gradients[r] == 0) continue;
    report->gradients += region.elements * int64_t{sizeof(float)};
  }
  for (size_t b = 0; b < plan.buckets.size() && shards; ++b) {
    report->weights += plan.buckets[b].segment * SizeOf(plan.buckets[b].dtype);
  }
  for (const PlannedParam& param : plan.params) {
    if (param.tied_to >= 0 || !param.frozen) continue;
    report->weights += Elements(param) * SizeOf(param.dtype);
  }
}

// What a rank keeps of a bucket's gradients between exchanges, beside homes.
int64_t GradientBytes(const BucketPlan& bucket, int64_t ranks,
                      const OptimizerOptions& options) {
  switch (PlaceOfGradients(bucket, options)) {
    case GradientPlace::kHome:
      return 0;
    case GradientPlace::kKept:
      return GradientSegmentBytes(bucket) * ranks;
    case GradientPlace::kBuffer:
      return GradientSegmentBytes(bucket);
  }
  return 0;
}

int64_t TableBytes(const ShardLayout& layout, bool all_sums, bool projects) {
  int64_t bytes = 0;
  for (const RunState& state : layout.runs) {
    bytes += (projects ? 2 : 1) * CountSumSpans(state, all_sums) *
             int64_t{sizeof(SumSpan)};
    for (const SpanState& span : state.spans) {
      if (span.split >= 0) bytes += int64_t{sizeof(SplitTarget)};
    }
  }
  return bytes;
}

void AddBucket(const Plan& plan, const OptimizerOptions& options, int rank,
               int bucket, MemoryReport* report) {
  const BucketPlan& planned = plan.buckets[bucket];
  const ShardLayout layout = LayoutOf(
      plan, bucket, PlaceOf(plan.options, options, planned.expert, rank).rank,
      options);
  report->gradients += GradientBytes(planned, plan.options.ranks, options);
  report->momentum += layout.momentum_bytes;
  report->second_moment += layout.second_moment_bytes;
  report->master += layout.master_bytes;
  report->statistics += layout.block_sums * int64_t{sizeof(double)};
  report->tables +=
      TableBytes(layout, SumsOf(plan, options).all, Projects(planned));
}

// A second gradient of a tensor is packed aside, and added.
int64_t AddedAside(const Plan& plan, const OptimizerOptions& options) {
  int64_t most = 0;
  for (const PlannedParam& param : plan.params) {
    if (!param.has_state()) continue;
    if (param.sharers.size() == 1 && options.micro_steps == 1) continue;
    most = std::max(most, Elements(param));
  }
  return most * int64_t{sizeof(float)};
}

}  // namespace

MemoryReport MemoryOf(const Plan& plan, const OptimizerOptions& options,
                      int rank) {
  MemoryReport report;
  AddHomes(plan, options, &report);
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    AddBucket(plan, options, rank, static_cast<int>(b), &report);
  }
  const ColumnBytes columns = BytesOf(ColumnsOf(plan, options, rank));
  report.second_moment += columns.moments;
  report.statistics +=
      columns.statistics() + TileScratchBytes(LargestTile(plan, options));
  report.tables +=
      columns.tables() +
      static_cast<int64_t>(plan.params.size()) * int64_t{sizeof(int64_t)} +
      DecisionLayoutOf(plan, options).bytes();
  report.buckets = TotalBytes(ExchangeBuffers(plan, options));
  const GatheredBytes gathered = GatheredInPasses(plan, options);
  report.gathered = gathered.left;
  report.peak = report.total() - gathered.left + gathered.most +
                AddedAside(plan, options);
  return report;
}

int LargestRank(const Plan& plan, const OptimizerOptions& options) {
  const int ranks = plan.options.ranks * plan.options.replicas;
  std::vector<int64_t> dense(plan.options.ranks, 0);
  std::vector<int64_t> experts(plan.options.ranks, 0);
  std::vector<HeldMatrices> held(plan.options.ranks);
  for (const BucketPlan& bucket : plan.buckets) {
    std::vector<int64_t>& bytes = bucket.expert ? experts : dense;
    for (int rank = 0; rank < plan.options.ranks; ++rank) {
      for (const Run& run : bucket.runs[rank]) {
        bytes[rank] += StateBytesOf(plan, run, options) +
                       held[rank].Add(plan, run) * int64_t{sizeof(float)};
      }
    }
  }
  int largest = 0;
  int64_t most = -1;
  for (int rank = 0; rank < ranks; ++rank) {
    const int64_t bytes =
        dense[PlaceOf(plan.options, options, false, rank).rank] +
        experts[PlaceOf(plan.options, options, true, rank).rank];
    if (bytes <= most) continue;
    most = bytes;
    largest = rank;
  }
  return largest;
}

}  // namespace zeromini
