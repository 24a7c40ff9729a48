#include "shard/column_layout.h"
#include "shard/exchange_places.h"
#include "shard/rank_place.h"
#include "shard/shard_format.h"
#include "shard/stages.h"
#include "shard/step_words.h"
#include "zeromini/internal/sent_bytes.h"
#include "zeromini/plan_bytes.h"

namespace zeromini {
namespace {

struct Call {
  int64_t bytes = 0;    // Of all segments.
  int64_t padding = 0;  // Of `bytes`.
  int passes = 1;
  int64_t ranks = 1;
};

void Count(const Call& call, int64_t times, TrafficCount* count) {
  count->calls += times;
  count->bytes += times * SentBytes(call.bytes, call.passes, call.ranks);
  count->padding_bytes +=
      times * SentBytes(call.padding, call.passes, call.ranks);
}

// The reduce-scatter inside a copy, and the all-reduce of the shard between
// copies.
void AddGradients(const Plan& plan, const OptimizerOptions& options,
                  const BucketPlan& bucket, int replicas, StepBytes* bytes) {
  const int64_t ranks = plan.options.ranks;
  const int64_t padding = bucket.wire_segment * ranks - bucket.wire_elements;
  const int64_t width = SizeOf(options.gradient_wire);
  const int64_t times = GradExchanges(options);
  Count({bucket.wire_segment * ranks * width, padding * width, 1, ranks}, times,
        &bytes->gradients);
  if (replicas == 1) return;
  constexpr int64_t kSumBytes = sizeof(float);
  Count({bucket.wire_segment * kSumBytes, padding / ranks * kSumBytes, 2,
         replicas},
        times, &bytes->gradients);
}

void AddWeights(const Plan& plan, const OptimizerOptions& options, int bucket,
                StepBytes* bytes) {
  const BucketPlan& planned = plan.buckets[bucket];
  const int64_t ranks = plan.options.ranks;
  const bool travels = KeepsWeightShards(options) || ranks > 1 ||
                       MasterIsSegment(plan, bucket, options);
  if (!travels) return;
  const int64_t width = planned.dtype == DType::kFloat32
                            ? SizeOf(options.weight_wire)
                            : SizeOf(planned.dtype);
  Count({planned.segment * ranks * width,
         (planned.segment * ranks - planned.elements) * width, 1, ranks},
        1, &bytes->weights);
}

// What lies at home is copied only where it cannot be written there.
int64_t PackedGradients(const Plan& plan, const OptimizerOptions& options,
                        const BucketPlan& bucket) {
  const bool home = PlaceOfGradients(bucket, options) == GradientPlace::kHome;
  int64_t elements = 0;
  for (const Part& part : bucket.parts) {
    const PlannedParam& param = plan.params[part.param];
    const auto sharers = static_cast<int64_t>(param.sharers.size());
    if (home && sharers == 1) continue;
    elements += sharers * WireElements(param, part.first_row, part.rows);
  }
  return elements * options.micro_steps * int64_t{sizeof(float)};
}

// Of the rows of one rank, `own` or another's, how often they are copied.
int Copies(const PlannedParam& param, bool own, bool rounds) {
  if (!own || rounds) return 1;
  return param.transposed ? 2 : 1;
}

int64_t CopiedWeights(const Plan& plan, const OptimizerOptions& options,
                      int bucket, int own) {
  const BucketPlan& planned = plan.buckets[bucket];
  const int64_t width = SizeOf(planned.dtype);
  if (KeepsWeightShards(options)) {
    return planned.in_place() ? 0 : planned.elements * width;
  }
  if (!WeightsNeedBuffer(plan, bucket, options)) return 0;
  const bool rounds = MasterIsSegment(plan, bucket, options);
  int64_t elements = 0;
  for (int rank = 0; rank < plan.options.ranks; ++rank) {
    for (const Run& run : planned.runs[rank]) {
      const PlannedParam& param = plan.params[run.param];
      elements +=
          Copies(param, rank == own, rounds) * run.rows * param.row_elements;
    }
  }
  return elements * width;
}

}  // namespace

StepBytes StepBytesOf(const Plan& plan, const OptimizerOptions& options,
                      int rank) {
  StepBytes bytes;
  for (size_t b = 0; b < plan.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    const BucketPlan& planned = plan.buckets[b];
    const RankPlace place =
        PlaceOf(plan.options, options, planned.expert, rank);
    AddGradients(plan, options, planned, place.replicas, &bytes);
    AddWeights(plan, options, bucket, &bytes);
    bytes.copied_gradients += PackedGradients(plan, options, planned);
    bytes.copied_weights += CopiedWeights(plan, options, bucket, place.rank);
  }
  const int64_t words = WordsOf(plan, options.expert_slices);
  const int64_t columns = SharedColumns(plan, options.expert_slices);
  const int64_t ranks = int64_t{plan.options.ranks} * plan.options.replicas;
  if (columns > 0) Count({columns, 0, 2, ranks}, 1, &bytes.scalars);
  Count({(words + columns) * int64_t{sizeof(int64_t)}, 0, 2, ranks}, 1,
        &bytes.scalars);
  return bytes;
}

}  // namespace zeromini
