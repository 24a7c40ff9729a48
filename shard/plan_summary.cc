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
  const std::string& first = plan.params[bucket.params.front()].name;
  if (bucket.params.size() == 1) return first;
  return absl::StrCat(first, " + ", bucket.params.size() - 1);
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
    if (bucket.in_place) in_place += bucket.elements;
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

std::string Plan::ToTable() const {
  std::string table =
      absl::StrFormat("%6s  %-9s %14s %14s %9s %5s  %s\n", "bucket", "form",
                      "elements", "segment", "padding", "runs", "parameters");
  for (size_t i = 0; i < buckets.size(); ++i) {
    const BucketPlan& bucket = buckets[i];
    const double padding = static_cast<double>(bucket.segment) * options.ranks /
                               static_cast<double>(bucket.elements) -
                           1;
    absl::StrAppendFormat(&table, "%6d  %-9s %14d %14d %8.3f%% %5d  %s\n", i,
                          bucket.in_place ? "in place" : "packed",
                          bucket.elements, bucket.segment, 100 * padding,
                          MostRuns(bucket), Contents(*this, bucket));
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
