// How the stations of a pipeline are put together.

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "runtime/step/step_pipeline.h"
#include "shard/exchange_buffers.h"
#include "shard/layout_cost.h"
#include "shard/stages.h"
#include "shard/step_words.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/log.h"

namespace zeromini {
namespace {

// Gradients in the reverse order of the parameters must always fit.
int64_t BudgetOf(const std::vector<BufferClass>& classes,
                 const OptimizerOptions& options) {
  return std::max(BufferBudget(options.buffer_budget_bytes),
                  TotalBytes(classes));
}

LeasePool::Limits PoolLimits(const Plan& plan, const OptimizerOptions& options,
                             const Communicator& group) {
  LeasePool::Limits limits;
  limits.kind = MemoryKind::kBuckets;
  limits.classes = ExchangeBuffers(plan, options);
  limits.budget = BudgetOf(limits.classes, options);
  limits.overlaps = group.overlaps();
  // GradReady() blocks for nothing.
  limits.patience = absl::ZeroDuration();
  if (options.buffer_budget_bytes != 0) return limits;
  limits.exceeded = [log = options.log, rank = group.rank(),
                     budget = limits.budget](int64_t held) {
    if (rank != 0) return;
    Log(log, LogLevel::kWarning,
        absl::StrCat("exchange buffers take ", held, " bytes, more than ",
                     budget,
                     ": gradients do not come in about the reverse order of "
                     "the parameters, or some are left out, so buckets wait "
                     "for each other. Set buffer_budget_bytes to have a bound "
                     "kept, with an error"));
  };
  return limits;
}

}  // namespace

StepPipeline::StepPipeline(const OptimizerOptions& options, const Plan& plan,
                           Device& device, RankGroups& ranks)
    : options_(options),
      hyper_groups_(options.hyper_groups),
      plan_(plan),
      device_(device),
      ranks_(ranks),
      group_(ranks.world()),
      pool_(device, PoolLimits(plan, options, group_)) {}

absl::StatusOr<std::unique_ptr<StepPipeline>> StepPipeline::Create(
    const OptimizerOptions& options, const Plan& plan,
    absl::Span<const ParamSpec> specs, const MethodChoice& methods,
    Device& device, RankGroups& ranks) {
  auto pipeline = std::unique_ptr<StepPipeline>(
      new StepPipeline(options, plan, device, ranks));
  ZEROMINI_RETURN_IF_ERROR(pipeline->MakeMethods(methods));
  ZEROMINI_RETURN_IF_ERROR(pipeline->BuildStations(specs));
  return pipeline;
}

absl::Status StepPipeline::MakeMethods(const MethodChoice& methods) {
  for (const PlannedParam& param : plan_.params) {
    ParamMethod own;
    own.method = methods(param);
    const int64_t bytes =
        !param.has_state() ? 0 : own.method->SharedBytes(param);
    ZEROMINI_CHECK(bytes == 0 || param.blocks.empty());
    ZEROMINI_ASSIGN_OR_RETURN(
        own.shared, device_.Allocate(bytes, MemoryKind::kMethodState));
    methods_.push_back(std::move(own));
  }
  return absl::OkStatus();
}

absl::Status StepPipeline::BuildStations(absl::Span<const ParamSpec> specs) {
  ZEROMINI_ASSIGN_OR_RETURN(
      ShardState state, ShardState::Create(plan_, options_, ranks_, device_));
  state_ = std::make_unique<ShardState>(std::move(state));
  ZEROMINI_ASSIGN_OR_RETURN(
      home_, MakeWeightHome({plan_, options_, *state_, device_, ranks_, pool_},
                            specs));
  ZEROMINI_ASSIGN_OR_RETURN(
      decider_, StepDecider::Create(plan_, options_, ranks_, device_, *state_));
  ZEROMINI_ASSIGN_OR_RETURN(
      road_,
      GradRoad::Create({plan_, methods_, home_->store(), device_, pool_,
                        options_, ranks_, options_.micro_steps,
                        KeepsFullGradients(options_), options_.gradient_wire},
                       options_, *state_, decider_->words()));
  ZEROMINI_RETURN_IF_ERROR(decider_->SetSplits(SplitTargets()));
  ZEROMINI_ASSIGN_OR_RETURN(
      update_, ShardUpdate::Create({plan_, methods_, *state_, *home_, *road_,
                                    *decider_, device_},
                                   options_));
  return absl::OkStatus();
}

std::vector<SplitTarget> StepPipeline::SplitTargets() const {
  std::vector<SplitTarget> targets;
  for (size_t b = 0; b < plan_.buckets.size(); ++b) {
    const int bucket = static_cast<int>(b);
    const int slice = ranks_.of(plan_.buckets[b]).slice;
    for (const RunState& run : state_->layout(bucket).runs) {
      for (const SpanState& span : run.spans) {
        if (span.split < 0) continue;
        targets.push_back({SplitWordsOf(plan_, span.split, slice),
                           road_->block_sums(bucket) + span.sums_offset});
      }
    }
  }
  return targets;
}

}  // namespace zeromini
