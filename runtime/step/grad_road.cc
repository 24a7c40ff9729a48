#include "runtime/step/grad_road.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "shard/exchange_places.h"
#include "shard/stages.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

GradRoad::GradRoad(const BucketContext& context,
                   const OptimizerOptions& options, const ShardState& state,
                   int64_t* words)
    : context_(context),
      sums_(SumsOf(context.plan, options)),
      per_step_(GradExchanges(options)),
      columns_(state.columns().sums()),
      words_(words),
      arrivals_(context.plan.params.size()) {}

absl::StatusOr<std::unique_ptr<GradRoad>> GradRoad::Create(
    const BucketContext& context, const OptimizerOptions& options,
    const ShardState& state, int64_t* words) {
  auto road =
      std::unique_ptr<GradRoad>(new GradRoad(context, options, state, words));
  for (size_t b = 0; b < context.plan.buckets.size(); ++b) {
    ZEROMINI_RETURN_IF_ERROR(road->AddBucket(static_cast<int>(b), state));
  }
  road->BeginStep();
  return road;
}

absl::Status GradRoad::AddBucket(int bucket, const ShardState& state) {
  ZEROMINI_ASSIGN_OR_RETURN(auto grads, GradBucket::Create(context_, bucket));
  buckets_.push_back(std::move(grads));
  const ShardLayout& layout = state.layout(bucket);
  const BucketPlan& plan = context_.plan.buckets[bucket];
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer sums,
      context_.device.Allocate(layout.block_sums * int64_t{sizeof(double)},
                               MemoryKind::kStatistics));
  block_sums_.push_back(std::move(sums));
  for (bool full : {false, true}) {
    SpanTable table;
    const std::vector<SumSpan> spans =
        SumSpansOf(context_.plan, layout, full ? plan.full_wire() : plan.wire(),
                   sums_.all, context_.groups.of(plan).slice);
    table.count = static_cast<int64_t>(spans.size());
    if (!full || buckets_.back()->projects()) {
      ZEROMINI_ASSIGN_OR_RETURN(table.spans, Upload(spans));
    }
    (full ? full_spans_ : spans_).push_back(std::move(table));
  }
  return absl::OkStatus();
}

absl::StatusOr<Buffer> GradRoad::Upload(
    const std::vector<SumSpan>& spans) const {
  const int64_t bytes =
      static_cast<int64_t>(spans.size()) * int64_t{sizeof(SumSpan)};
  ZEROMINI_ASSIGN_OR_RETURN(
      Buffer there, context_.device.Allocate(bytes, MemoryKind::kTables));
  if (bytes > 0) {
    ZEROMINI_RETURN_IF_ERROR(
        context_.device.Copy(spans.data(), there.get(), bytes, Stream{}));
  }
  return there;
}

absl::Status GradRoad::Add(int param, const void* gradient, const float* home,
                           Stream stream, const FireReady& fire_ready,
                           bool* refused) {
  const int owner = context_.plan.params[param].owner;
  std::lock_guard<std::mutex> lock(arrivals_[owner]);
  // A large tensor then needs no more buffers at a time than a small one.
  for (int bucket : BucketsAsTheyLeave(context_.plan.params[owner])) {
    ZEROMINI_RETURN_IF_ERROR(
        buckets_[bucket]->Add(owner, {param, gradient, home, stream}, refused));
    ZEROMINI_RETURN_IF_ERROR(fire_ready());
  }
  return absl::OkStatus();
}

bool GradRoad::NextReady() const {
  return buckets_[BucketAt(fired_)]->Ready(fired_ / buckets());
}

absl::Status GradRoad::FireNext() {
  const int bucket = BucketAt(fired_);
  const int number = fired_ / buckets();
  ZEROMINI_RETURN_IF_ERROR(buckets_[bucket]->Fire(number));
  ++fired_;
  if (number < per_step_ - 1 || sums_.late) return absl::OkStatus();
  return SubmitStatistics(bucket, 0);
}

absl::Status GradRoad::SubmitStatistics(int bucket, float limit) {
  const GradBucket& grads = *buckets_[bucket];
  const bool as_full = grads.full() && grads.projects();
  const SpanTable& table = (as_full ? full_spans_ : spans_)[bucket];
  if (table.count == 0 && limit == 0) return absl::OkStatus();
  const StatisticsArgs args = {
      grads.shard(), static_cast<const SumSpan*>(table.spans.get()),
      table.count, block_sums(bucket), words_, sums_.all,
      // Other replicas have the same sums.
      context_.groups.of(context_.plan.buckets[bucket]).replica == 0, columns_};
  const ClampArgs clamp = {grads.shard(), grads.wire().segment, limit};
  return context_.device.Launch(
      context_.device.compute(),
      [&kernels = context_.device.kernels(), args,
       clamp](Stream on) -> absl::Status {
        if (clamp.limit > 0) ZEROMINI_RETURN_IF_ERROR(kernels.clamp(clamp, on));
        return args.count == 0 ? absl::OkStatus()
                               : kernels.statistics(args, on);
      });
}

absl::Status GradRoad::ClampAll(float limit) {
  for (int bucket = 0; bucket < buckets(); ++bucket) {
    ZEROMINI_RETURN_IF_ERROR(SubmitStatistics(bucket, limit));
  }
  return absl::OkStatus();
}

bool GradRoad::Present(int param, bool any) const {
  const GradBucket& bucket = AnyOf(param);
  return bucket.arrived(param) >= (any ? 1 : bucket.expected(param));
}

bool GradRoad::Lacks(int param, int given_as) const {
  return AnyOf(param).Lacks(param, given_as);
}

void GradRoad::BeginStep() {
  for (int bucket = 0; bucket < buckets(); ++bucket) {
    const std::vector<Part>& parts = context_.plan.buckets[bucket].parts;
    buckets_[bucket]->BeginStep(std::any_of(
        parts.begin(), parts.end(),
        [this](const Part& part) { return Refreshes(part.param); }));
  }
}

void GradRoad::Reset(bool refreshed) {
  fired_ = 0;
  bool due = false;
  for (size_t p = 0; p < context_.plan.params.size(); ++p) {
    due = due || Refreshes(static_cast<int>(p));
  }
  if (refreshed || !due) ++step_;
  for (auto& bucket : buckets_) bucket->Reset();
  BeginStep();
}

std::string GradRoad::OrderHint() const {
  const Plan& plan = context_.plan;
  const auto describe = [&](int param, const char* what) {
    const PlannedParam& owner = plan.params[plan.params[param].owner];
    return absl::StrCat("on rank ", context_.groups.world().rank(), " ", what,
                        " '", plan.params[param].name, "' (layer set ",
                        owner.layer_set, ")");
  };
  for (int fired = std::max(0, fired_ - buckets()); fired < fired_; ++fired) {
    const int bucket = BucketAt(fired);
    const Event landed = buckets_[bucket]->landed();
    if (context_.device.Synchronize(landed, absl::Now()).ok()) continue;
    return describe(plan.buckets[bucket].parts.front().param,
                    "all gradients had come of the bucket with");
  }
  if (AllFired()) return "";
  const int missing =
      buckets_[BucketAt(fired_)]->FirstMissing(fired_ / buckets());
  if (missing < 0) return "";
  return describe(missing, "a gradient had not come of");
}

}  // namespace zeromini
