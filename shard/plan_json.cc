#include <nlohmann/json.hpp>

#include "absl/strings/str_format.h"
#include "zeromini/plan.h"

namespace zeromini {
namespace {

using Json = nlohmann::ordered_json;

Json BlocksToJson(const std::vector<BlockSegment>& segments) {
  Json list = Json::array();
  for (const BlockSegment& segment : segments) {
    Json entry = {segment.rows, segment.rows_per_block};
    if (segment.kind.has_value()) entry.push_back(BlockKindName(*segment.kind));
    if (segment.form != MomentForm::kBlocks) {
      entry.push_back(MomentFormName(segment.form));
    }
    list.push_back(std::move(entry));
  }
  return list;
}

Json UnitsToJson(const std::vector<UnitSegment>& units) {
  Json list = Json::array();
  for (const UnitSegment& unit : units) {
    list.push_back({unit.rows, unit.rows_per_unit, unit.wire_elements,
                    unit.state_elements});
  }
  return list;
}

Json OptionsToJson(const PlanOptions& options) {
  Json json;
  json["optimizer"] = AlgorithmName(options.algorithm);
  json["ranks"] = options.ranks;
  json["replicas"] = options.replicas;
  json["stage"] = options.stage;
  json["naming"] =
      options.naming == Naming::kOfficial ? "official" : "zeromini";
  json["value_blocks"] =
      options.value_blocks == ValueBlocks::kWhole ? "whole" : "rows";
  json["second_moment"] = SecondMomentName(options.second_moment);
  json["blocks"] =
      options.blocks == BlockCuts::kSplitAtCuts ? "split" : "whole";
  json["bucketing"] =
      options.bucketing == Bucketing::kByLayer ? "layer" : "cheapest";
  json["memory"] = options.memory == MemoryForm::kFlat ? "flat" : "external";
  json["bucket_bytes"] = options.bucket_bytes;
  json["buffer_budget_bytes"] = options.buffer_budget_bytes;
  json["copy_cost"] = options.copy_cost;
  json["collective_cost_bytes"] = options.collective_cost_bytes;
  json["model"] = {{"hidden", options.model.hidden},
                   {"heads", options.model.heads},
                   {"kv_heads", options.model.kv_heads},
                   {"head_dim", options.model.head_dim}};
  return json;
}

Json ParamToJson(const PlannedParam& param) {
  Json json;
  json["name"] = param.name;
  json["shape"] = param.shape;
  json["rows"] = param.rows;
  json["row_elements"] = param.row_elements;
  json["dtype"] = DTypeName(param.dtype);
  json["optimizer"] = AlgorithmName(param.algorithm);
  json["transposed"] = param.transposed;
  json["element_state"] = param.element_state;
  json["blocks"] = BlocksToJson(param.blocks);
  json["units"] = UnitsToJson(param.units);
  json["padding_rows"] = param.padding_rows;
  json["role"] = RoleName(param.role);
  json["chosen_by"] = param.chosen_by;
  json["decays"] = param.decays;
  json["frozen"] = param.frozen;
  json["expert"] = param.expert;
  json["tied_to"] = param.tied_to;
  json["hyper_group"] = param.hyper_group;
  json["layer"] = param.layer;
  json["layer_set"] = param.layer_set;
  json["buckets"] = param.buckets;
  json["region"] = param.region;
  json["region_offset"] = param.region_offset;
  json["blocks_total"] = param.blocks_total;
  return json;
}

Json BucketToJson(const BucketPlan& bucket) {
  Json json;
  // [param, first_row, rows] each.
  json["parts"] = Json::array();
  for (const Part& part : bucket.parts) {
    json["parts"].push_back({part.param, part.first_row, part.rows});
  }
  json["in_place"] = bucket.in_place();
  json["reason"] = BucketReasonName(bucket.reason);
  json["region"] = bucket.region;
  json["region_offset"] = bucket.region_offset;
  json["elements"] = bucket.elements;
  json["wire_elements"] = bucket.wire_elements;
  json["segment"] = bucket.segment;
  json["wire_segment"] = bucket.wire_segment;
  // [param, first_row, rows, offset, wire_offset, wire_elements,
  // state_elements] each.
  json["runs"] = Json::array();
  for (const std::vector<Run>& runs : bucket.runs) {
    Json list = Json::array();
    for (const Run& run : runs) {
      list.push_back({run.param, run.first_row, run.rows, run.offset,
                      run.wire_offset, run.wire_elements, run.state_elements});
    }
    json["runs"].push_back(std::move(list));
  }
  return json;
}

}  // namespace

std::string Plan::ToJson() const {
  Json json;
  json["options"] = OptionsToJson(options);
  json["padding_fraction"] = PaddingFraction();
  json["imbalance"] = Imbalance();
  json["in_place_fraction"] = InPlaceFraction();
  json["largest_bucket_bytes"] = LargestBucketBytes();
  json["early_fraction"] = EarlyFraction();
  json["params"] = Json::array();
  for (const PlannedParam& param : params) {
    json["params"].push_back(ParamToJson(param));
  }
  json["buckets"] = Json::array();
  for (const BucketPlan& bucket : buckets) {
    json["buckets"].push_back(BucketToJson(bucket));
  }
  json["regions"] = Json::array();
  for (const RegionPlan& region : regions) {
    json["regions"].push_back({{"dtype", DTypeName(region.dtype)},
                               {"expert", region.expert},
                               {"layer_set", region.layer_set},
                               {"elements", region.elements}});
  }
  json["split_blocks"] = Json::array();
  for (const SplitBlock& split : split_blocks) {
    json["split_blocks"].push_back({split.param, split.block});
  }
  json["warnings"] = warnings;
  // 64 bits do not survive every JSON reader as a number.
  json["hash"] = absl::StrFormat("%016x", hash);
  // Names are bytes; a name that is no UTF-8 must not throw here.
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace zeromini
