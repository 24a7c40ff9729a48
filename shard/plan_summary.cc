#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

int64_t Payload(const Plan& plan) {
  int64_t elements = 0;
  for (const BucketPlan& bucket : plan.buckets) elements += bucket.elements;
  return elements;
}

// "2 layers" and the like: the roles in a bucket would say less.
std::string Contents(const Plan& plan, const BucketPlan& bucket) {
  const Part& part = bucket.parts.front();
  const PlannedParam& param = plan.params[part.param];
  std::string text = param.name;
  if (part.rows < param.rows) {
    absl::StrAppend(&text, "[", part.first_row, ":", part.first_row + part.rows,
                    "]");
  }
  if (bucket.parts.size() > 1) {
    absl::StrAppend(&text, " + ", bucket.parts.size() - 1);
  }
  return text;
}

// The last parameter of the first layer; of no layer at all, the first
// parameter that is updated.
int LastOfFirstLayer(const Plan& plan) {
  int layer = -1;
  int last = -1;
  for (size_t p = 0; p < plan.params.size(); ++p) {
    const PlannedParam& param = plan.params[p];
    if (!param.has_state()) continue;
    if (layer < 0 && last < 0) last = static_cast<int>(p);
    if (param.layer < 0) continue;
    if (layer < 0) layer = param.layer;
    if (param.layer == layer) last = static_cast<int>(p);
  }
  return last;
}

size_t MostRuns(const BucketPlan& bucket) {
  size_t most = 0;
  for (const auto& runs : bucket.runs) most = std::max(most, runs.size());
  return most;
}

}  // namespace

double Plan::PaddingFraction() const {
  const int64_t payload = Payload(*this);
  if (payload == 0) return 0;
  double held = 0;
  for (const BucketPlan& bucket : buckets) {
    held += static_cast<double>(bucket.segment) * options.ranks;
  }
  return held / static_cast<double>(payload) - 1;
}

double Plan::Imbalance() const {
  const int64_t payload = Payload(*this);
  if (payload == 0) return 0;
  std::vector<int64_t> owned(options.ranks, 0);
  for (const BucketPlan& bucket : buckets) {
    for (int rank = 0; rank < options.ranks; ++rank) {
      for (const Run& run : bucket.runs[rank]) {
        owned[rank] += run.rows * params[run.param].row_elements;
      }
    }
  }
  const int64_t largest = *std::max_element(owned.begin(), owned.end());
  return static_cast<double>(largest) * options.ranks /
             static_cast<double>(payload) -
         1;
}

double Plan::InPlaceFraction() const {
  const int64_t payload = Payload(*this);
  if (payload == 0) return 0;
  int64_t in_place = 0;
  for (const BucketPlan& bucket : buckets) {
    if (bucket.in_place()) in_place += bucket.elements;
  }
  return static_cast<double>(in_place) / static_cast<double>(payload);
}

int64_t Plan::LargestBucketBytes() const {
  int64_t largest = 0;
  for (const BucketPlan& bucket : buckets) {
    largest = std::max(largest, bucket.segment);
  }
  return largest * options.ranks * SizeOf(DType::kFloat32);
}

int64_t GatherBytes(const Plan& plan, int layer_set) {
  int64_t bytes = 0;
  for (const RegionPlan& region : plan.regions) {
    if (region.layer_set != layer_set) continue;
    bytes += region.elements * SizeOf(region.dtype);
  }
  for (const BucketPlan& bucket : plan.buckets) {
    if (bucket.layer_set != layer_set || bucket.in_place()) continue;
    bytes += bucket.segment * plan.options.ranks * SizeOf(bucket.dtype);
  }
  return bytes;
}

double Plan::EarlyFraction() const {
  const int64_t payload = Payload(*this);
  if (payload == 0) return 0;
  const int first_late = LastOfFirstLayer(*this) + 1;
  int64_t early = 0;
  for (const BucketPlan& bucket : buckets) {
    if (bucket.parts.front().param >= first_late) early += bucket.elements;
  }
  return static_cast<double>(early) / static_cast<double>(payload);
}

std::string Plan::ToTable() const {
  std::string table =
      absl::StrFormat("%6s  %-10s %14s %14s %9s %5s  %s\n", "bucket", "why",
                      "elements", "segment", "padding", "runs", "parameters");
  for (size_t i = 0; i < buckets.size(); ++i) {
    const BucketPlan& bucket = buckets[i];
    const double padding = static_cast<double>(bucket.segment) * options.ranks /
                               static_cast<double>(bucket.elements) -
                           1;
    absl::StrAppendFormat(&table, "%6d  %-10s %14d %14d %8.3f%% %5d  %s\n", i,
                          BucketReasonName(bucket.reason), bucket.elements,
                          bucket.segment, 100 * padding, MostRuns(bucket),
                          Contents(*this, bucket));
  }
  absl::StrAppendFormat(
      &table,
      "%d parameters in %d buckets over %d ranks: padding %.3f%%, imbalance "
      "%.3f%%, in place %.1f%%, split blocks %d, hash %016x\n",
      params.size(), buckets.size(), options.ranks, 100 * PaddingFraction(),
      100 * Imbalance(), 100 * InPlaceFraction(), split_blocks.size(), hash);
  if (options.replicas > 1) {
    absl::StrAppendFormat(
        &table,
        "%d replicas of %d ranks: rank r of %d owns the rows of rank r %% %d "
        "above\n",
        options.replicas, options.ranks, options.replicas * options.ranks,
        options.ranks);
  }
  for (const std::string& warning : warnings) {
    absl::StrAppend(&table, "warning: ", warning, "\n");
  }
  return table;
}

}  // namespace zeromini
