#include "shard/planner.h"

#include <algorithm>
#include <limits>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shard/layout_cost.h"
#include "shard/set_layout.h"
#include "shard/stages.h"
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

bool IsLayoutSize(int64_t bytes) {
  return bytes >= 0 && bytes <= kMostLayoutBytes;
}

absl::Status CheckLayout(const PlanOptions& options) {
  if (IsLayoutSize(options.bucket_bytes) &&
      IsLayoutSize(options.buffer_budget_bytes) &&
      IsLayoutSize(options.collective_cost_bytes) && options.copy_cost >= 0 &&
      options.copy_cost <= kMostCopyCost) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "bucket_bytes ", options.bucket_bytes, ", buffer_budget_bytes ",
      options.buffer_budget_bytes, ", collective_cost_bytes ",
      options.collective_cost_bytes, " must be 0 to ", kMostLayoutBytes,
      ", and copy_cost ", options.copy_cost, " 0 to ", kMostCopyCost));
}

absl::Status CheckOptions(const PlanOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(CheckRanks(options));
  ZEROMINI_RETURN_IF_ERROR(CheckModel(options.model));
  if (options.stage < 1 || options.stage > 3) {
    return absl::InvalidArgumentError(
        absl::StrCat("ZeRO stage must be 1, 2 or 3, got ", options.stage));
  }
  return CheckLayout(options);
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

// What all ranks hold of one bucket, with a unit on each.
constexpr int64_t kMostBucketElements = int64_t{1} << 56;

absl::Status CheckUnits(const PlannedParam& param, int ranks) {
  for (const UnitSegment& unit : param.units) {
    const int64_t elements = unit.rows_per_unit * param.row_elements;
    if (elements <= kMostBucketElements / ranks) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        param.name, ": a unit of ", elements, " elements on each of ", ranks,
        " ranks is more than ", kMostBucketElements, "; take fewer ranks"));
  }
  return absl::OkStatus();
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

// What one bucket cannot mix: dtype, expert, and at stage 3 layer set.
std::vector<ParamSet> SetsOf(const std::vector<PlannedParam>& params,
                             const PlanOptions& options) {
  std::map<std::tuple<DType, bool, int>, std::vector<int>> sets;
  for (size_t i = 0; i < params.size(); ++i) {
    const PlannedParam& param = params[i];
    if (param.frozen || param.tied_to >= 0) continue;
    const int layer_set =
        KeepsWeightShards(options) ? param.layer_set : kNoLayerSet;
    sets[{param.dtype, param.expert, layer_set}].push_back(static_cast<int>(i));
  }
  std::vector<ParamSet> result;
  for (auto& [kind, indices] : sets) {
    result.push_back({std::move(indices), params, std::get<int>(kind)});
  }
  return result;
}

// By unit, unless by layer fits the buffers, splits no more and costs less.
SetLayout Cheapest(const ParamSet& set, const PlanOptions& options,
                   LayoutCache& layouts) {
  SetLayout by_layer = LayOutByLayer(set, options, layouts);
  if (options.bucketing == Bucketing::kByLayer) return by_layer;
  SetLayout by_unit = LayOutByUnit(set, options, SizesOf(set, options));
  const bool may_split = options.blocks == BlockCuts::kSplitAtCuts;
  const bool keeps =
      may_split || by_layer.splits.size() <= by_unit.splits.size();
  const bool better =
      keeps && FitsBuffers(by_layer, options) &&
      CostOf(by_layer, set, options) < CostOf(by_unit, set, options);
  return better ? std::move(by_layer) : std::move(by_unit);
}

void AddSet(const ParamSet& set, SetLayout layout, Plan* plan) {
  const int first = static_cast<int>(plan->regions.size());
  const PlannedParam& any = set.params[set.indices.front()];
  for (RegionPlan& region : layout.regions) {
    plan->regions.push_back(
        {any.dtype, any.expert, set.layer_set, region.elements});
  }
  for (const SetLayout::Home& home : layout.homes) {
    plan->params[home.param].region = first + home.region;
    plan->params[home.param].region_offset = home.offset;
  }
  for (BucketPlan& bucket : layout.buckets) {
    if (bucket.in_place()) bucket.region += first;
    bucket.layer_set = set.layer_set;
    plan->buckets.push_back(std::move(bucket));
  }
  plan->split_blocks.insert(plan->split_blocks.end(), layout.splits.begin(),
                            layout.splits.end());
}

// A block can be cut by two ranks of one bucket, and by two buckets.
void SortSplits(std::vector<SplitBlock>* splits) {
  const auto key = [](const SplitBlock& split) {
    return std::make_pair(split.param, split.block);
  };
  std::sort(splits->begin(), splits->end(),
            [&](const auto& a, const auto& b) { return key(a) < key(b); });
  splits->erase(std::unique(splits->begin(), splits->end(),
                            [&](const auto& a, const auto& b) {
                              return key(a) == key(b);
                            }),
                splits->end());
}

// Gradients come in about the reverse order of parameters, and buckets leave in
// the reverse of this one: each when its first parameter's has come.
void OrderBuckets(Plan* plan) {
  const auto key = [](const BucketPlan& bucket) {
    const Part& first = bucket.parts.front();
    return std::make_tuple(first.param, first.first_row,
                           bucket.parts.back().param);
  };
  std::stable_sort(plan->buckets.begin(), plan->buckets.end(),
                   [&](const BucketPlan& a, const BucketPlan& b) {
                     return key(a) < key(b);
                   });
  std::map<std::pair<int, int64_t>, int> by_row;
  for (size_t b = 0; b < plan->buckets.size(); ++b) {
    for (const Part& part : plan->buckets[b].parts) {
      by_row[{part.param, part.first_row}] = static_cast<int>(b);
    }
  }
  for (const auto& [row, bucket] : by_row) {
    plan->params[row.first].buckets.push_back(bucket);
  }
}

}  // namespace

absl::StatusOr<Plan> MakePlanFor(std::vector<PlannedParam> params,
                                 const PlanOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(CheckOptions(options));
  for (const PlannedParam& param : params) {
    ZEROMINI_RETURN_IF_ERROR(CheckParam(param));
    ZEROMINI_RETURN_IF_ERROR(CheckUnits(param, options.ranks));
  }
  Plan plan;
  plan.options = options;
  plan.params = std::move(params);
  FillOwners(&plan.params);
  CountSecondMoments(&plan.params);
  LayoutCache layouts(options);
  for (const ParamSet& set : SetsOf(plan.params, options)) {
    AddSet(set, Cheapest(set, options, layouts), &plan);
  }
  SortSplits(&plan.split_blocks);
  OrderBuckets(&plan);
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
