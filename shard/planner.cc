#include "shard/planner.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shard/bucket_grouping.h"
#include "shard/bucket_layout.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Squares of sizes fit an int64_t.
constexpr int64_t kMaxSize = std::numeric_limits<int32_t>::max();

absl::Status CheckModel(const ModelShape& model) {
  for (int64_t size :
       {model.hidden, model.heads, model.kv_heads, model.head_dim}) {
    if (size >= 0 && size <= kMaxSize) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "ModelShape::hidden, heads, kv_heads, head_dim are ", model.hidden,
        ", ", model.heads, ", ", model.kv_heads, ", ", model.head_dim,
        "; each must be from 1 to ", kMaxSize, ", or 0 if unknown"));
  }
  if (model.heads > 0 && model.kv_heads > 0 &&
      model.heads % model.kv_heads != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("ModelShape::kv_heads ", model.kv_heads,
                     " do not divide ModelShape::heads ", model.heads));
  }
  return absl::OkStatus();
}

absl::Status CheckRanks(const PlanOptions& options) {
  if (options.ranks < 1 || options.ranks > kMaxPlanRanks) {
    return absl::InvalidArgumentError(
        absl::StrCat("a plan is made for 1 to ", kMaxPlanRanks, " ranks, got ",
                     options.ranks));
  }
  if (options.replicas < 1 ||
      options.replicas > kMaxPlanRanks / options.ranks) {
    return absl::InvalidArgumentError(absl::StrCat(
        "replicas times ranks must be from 1 to ", kMaxPlanRanks, ", got ",
        options.replicas, " replicas of ", options.ranks, " ranks"));
  }
  return absl::OkStatus();
}

absl::Status CheckOptions(const PlanOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(CheckRanks(options));
  ZEROMINI_RETURN_IF_ERROR(CheckModel(options.model));
  if (options.stage < 1 || options.stage > 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("ZeRO stage must be 1, 2 or 3, got ", options.stage));
  }
  if (options.bucket_bytes < 0 || !(options.max_in_place_padding >= 0)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "bucket_bytes ", options.bucket_bytes, " and max_in_place_padding ",
        options.max_in_place_padding, " must not be negative"));
  }
  return absl::OkStatus();
}

int64_t PartRows(const BlockSegment& segment) { return segment.rows_per_block; }
int64_t PartRows(const UnitSegment& segment) { return segment.rows_per_unit; }

template <typename Segment>
bool Covers(const std::vector<Segment>& pattern, int64_t rows) {
  int64_t period = 0;
  for (const Segment& segment : pattern) {
    if (segment.rows <= 0 || PartRows(segment) <= 0 ||
        segment.rows % PartRows(segment) != 0) {
      return false;
    }
    period += segment.rows;
  }
  return period > 0 && rows % period == 0;
}

bool HasCounts(const UnitSegment& unit) {
  return unit.wire_elements > 0 && unit.state_elements > 0;
}

absl::Status CheckParam(const PlannedParam& param) {
  const bool sizes =
      param.rows > 0 && param.row_elements > 0 &&
      std::all_of(param.units.begin(), param.units.end(), HasCounts);
  const bool blocks = param.blocks.empty() || Covers(param.blocks, param.rows);
  if (sizes && blocks && Covers(param.units, param.rows)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(param.name, ": units or blocks do not cover its ",
                   param.rows, " rows of ", param.row_elements,
                   ", or units have nothing on the wire or in the state"));
}

// Owners come before what is tied to them.
void FillOwners(std::vector<PlannedParam>* params) {
  for (size_t i = 0; i < params->size(); ++i) {
    PlannedParam& param = (*params)[i];
    param.owner = param.tied_to >= 0 ? param.tied_to : static_cast<int>(i);
    param.sharers.clear();
    (*params)[param.owner].sharers.push_back(static_cast<int>(i));
  }
}

// The units that the method wants, for what it has not left as it is.
void SetUnits(const UnitRule& rule, std::vector<PlannedParam>* params) {
  for (PlannedParam& param : *params) {
    if (param.frozen || param.tied_to >= 0) continue;
    std::vector<UnitSegment> units = rule(param);
    if (!units.empty()) param.units = std::move(units);
  }
}

// A second moment per element of the state is one of the projection's.
void CountSecondMoments(std::vector<PlannedParam>* params) {
  for (PlannedParam& param : *params) {
    if (param.blocks_total == 0 || !param.element_state) continue;
    param.blocks_total = StateElements(param, 0, param.rows);
  }
}

void AddBucket(const std::vector<int>& indices, LayoutCache& layouts,
               Plan* plan) {
  std::vector<const PlannedParam*> pointers;
  const int bucket = static_cast<int>(plan->buckets.size());
  for (int index : indices) {
    plan->params[index].bucket = bucket;
    pointers.push_back(&plan->params[index]);
  }
  const BucketLayout& layout = layouts.LayoutOf(pointers);
  plan->buckets.push_back(layout.plan);
  plan->buckets.back().params = indices;
  plan->buckets.back().dtype = plan->params[indices.front()].dtype;
  plan->buckets.back().expert = plan->params[indices.front()].expert;
  for (std::vector<Run>& runs : plan->buckets.back().runs) {
    for (Run& run : runs) run.param = indices[run.param];
  }
  for (const SplitBlock& split : layout.splits) {
    plan->split_blocks.push_back({indices[split.param], split.block});
  }
}

}  // namespace

absl::StatusOr<Plan> MakePlanFor(std::vector<PlannedParam> params,
                                 const PlanOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(CheckOptions(options));
  for (const PlannedParam& param : params) {
    ZEROMINI_RETURN_IF_ERROR(CheckParam(param));
  }
  Plan plan;
  plan.options = options;
  plan.params = std::move(params);
  FillOwners(&plan.params);
  CountSecondMoments(&plan.params);
  LayoutCache layouts(options);
  for (const std::vector<int>& indices :
       GroupIntoBuckets(plan.params, options, layouts)) {
    AddBucket(indices, layouts, &plan);
  }
  plan.hash = HashOf(plan);
  return plan;
}

absl::StatusOr<Plan> MakePlanWithUnits(absl::Span<const ParamSpec> specs,
                                       const PlanOptions& options,
                                       const UnitRule& rule) {
  ZEROMINI_RETURN_IF_ERROR(CheckOptions(options));
  std::vector<std::string> warnings;
  ZEROMINI_ASSIGN_OR_RETURN(std::vector<PlannedParam> params,
                            ResolveParams(specs, options, &warnings));
  SetUnits(rule, &params);
  ZEROMINI_ASSIGN_OR_RETURN(Plan plan, MakePlanFor(std::move(params), options));
  plan.warnings = std::move(warnings);
  plan.hash = HashOf(plan);
  return plan;
}

absl::StatusOr<Plan> MakePlan(absl::Span<const ParamSpec> specs,
                              const PlanOptions& options) {
  return MakePlanWithUnits(specs, options, [](const PlannedParam&) {
    return std::vector<UnitSegment>();
  });
}

}  // namespace zeromini
