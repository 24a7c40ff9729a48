#include "tools/plan/plan_report.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/layout_flags.h"
#include "tools/optimizer_choice.h"
#include "zeromini/plan_bytes.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::ordered_json;

int64_t Parameters(const Plan& plan) {
  int64_t elements = 0;
  for (const PlannedParam& param : plan.params) {
    if (param.tied_to < 0) elements += param.rows * param.row_elements;
  }
  return elements;
}

void CountBlocks(const PlannedParam& param, Json& counts) {
  if (param.element_state) {
    counts["element"] = counts["element"].get<int64_t>() + param.blocks_total;
    return;
  }
  int64_t period = 0;
  for (const BlockSegment& segment : param.blocks) period += segment.rows;
  counts["column"] =
      counts["column"].get<int64_t>() +
      static_cast<int64_t>(MatricesOf(param).size()) * param.row_elements;
  for (const BlockSegment& segment : param.blocks) {
    if (segment.form == MomentForm::kColumns) continue;
    const char* kind = BlockKindName(segment.kind.value());
    counts[kind] =
        counts[kind].get<int64_t>() +
        param.rows / period * (segment.rows / segment.rows_per_block);
  }
}

Json BlocksOf(const Plan& plan) {
  Json counts = {
      {"head", 0}, {"row", 0}, {"column", 0}, {"whole", 0}, {"element", 0}};
  for (const PlannedParam& param : plan.params) {
    if (param.has_state()) CountBlocks(param, counts);
  }
  return counts;
}

// How second moments of a parameter are stored, of fused segments each once.
std::string FormOf(const PlannedParam& param) {
  if (param.blocks_total == 0) return "none";
  if (param.element_state) return "elements";
  std::string forms;
  for (const BlockSegment& segment : param.blocks) {
    const std::string form = MomentFormName(segment.form);
    if (absl::StrContains(forms, form)) continue;
    absl::StrAppend(&forms, forms.empty() ? "" : "+", form);
  }
  return forms;
}

Json ParamsJson(const Plan& plan) {
  Json list = Json::array();
  for (const PlannedParam& param : plan.params) {
    if (param.tied_to >= 0) continue;
    list.push_back({{"name", param.name},
                    {"second_moments", param.blocks_total},
                    {"form", FormOf(param)}});
  }
  return list;
}

Json MemoryJson(const MemoryReport& memory) {
  return {{"weights", memory.weights},
          {"gathered", memory.gathered},
          {"gradients", memory.gradients},
          {"momentum", memory.momentum},
          {"second_moment", memory.second_moment},
          {"master", memory.master},
          {"method_state", memory.method_state},
          {"statistics", memory.statistics},
          {"buckets", memory.buckets},
          {"tables", memory.tables},
          {"peak", memory.peak},
          {"total", memory.total()}};
}

Json StepJson(const StepBytes& step) {
  return {{"gradients", step.gradients.bytes - step.gradients.padding_bytes},
          {"weights", step.weights.bytes - step.weights.padding_bytes},
          {"scalars", step.scalars.bytes},
          {"padding", step.padding()}};
}

// What the planner weighs, but for what travels after backward.
Json CostJson(const StepBytes& step, const OptimizerOptions& options) {
  const int64_t sent = step.gradients.bytes + step.weights.bytes;
  const double copies = options.copy_cost * static_cast<double>(step.copied());
  const double starts = static_cast<double>(options.collective_cost_bytes) *
                        static_cast<double>(step.collectives());
  return {{"sent", sent},
          {"copies", copies},
          {"collectives", starts},
          {"total", static_cast<double>(sent) + copies + starts}};
}

// What restores fp32, if anything is kept for it.
const char* MasterOf(const OptimizerOptions& options, DType dtype,
                     int64_t bytes) {
  if (bytes == 0) return MasterFormatName(MasterFormat::kNone);
  return MasterFormatName(dtype == DType::kFloat32 ? MasterFormat::kFloat32
                                                   : options.master);
}

void DescribeChoices(const OptimizerOptions& options, const Plan& plan,
                     const MemoryReport& memory, Json* json) {
  Json& out = *json;
  const DType dtype = plan.params.front().dtype;
  out["stage"] = options.stage;
  out["shard_group"] = plan.options.ranks;
  out["replicas"] = plan.options.replicas;
  out["memory"] = options.memory == MemoryForm::kFlat ? "flat" : "external";
  out["dtype"] = DTypeName(dtype);
  out["master_format"] = MasterOf(options, dtype, memory.master);
  out["state_format"] = StateFormatName(options.state);
  out["gradient_wire"] = DTypeName(options.gradient_wire);
  // 16-bit weights travel as they are.
  out["weight_wire"] =
      DTypeName(dtype == DType::kFloat32 ? options.weight_wire : dtype);
  out["micro_steps"] = options.micro_steps;
  out["block_cuts"] = WordOf(options.blocks);
  out["bucketing"] = WordOf(options.bucketing);
  out["value_blocks"] =
      options.value_blocks == ValueBlocks::kRows ? "rows" : "whole";
  out["second_moment"] = SecondMomentName(options.second_moment);
  out["gather_budget_bytes"] = options.gather_budget_bytes;
  out["prefetch"] = options.prefetch;
  out["bucket_bytes"] = options.bucket_bytes;
  out["buffer_budget_bytes"] = options.buffer_budget_bytes;
  out["copy_cost"] = options.copy_cost;
  out["collective_cost_bytes"] = options.collective_cost_bytes;
}

double Mebibytes(const Json& bytes) {
  return static_cast<double>(bytes.get<int64_t>()) / (1 << 20);
}

}  // namespace

const char kPlanKeys[] =
    "Table, of the largest rank: m and v are momentum and second moments; a "
    "step\n"
    "sends gradients and weights (without padding) and copies; buffer: those "
    "of\n"
    "exchanges; total: all that is held after a step. JSON has more:\n"
    "\n"
    "bytes_per_rank: what Optimizer::Memory() counts after a step on the rank\n"
    "  that holds most state; total is their sum, peak left out\n"
    "  weights, gradients  flat memory with its padding (external: 0), at\n"
    "                 stage 3 shards; gradients also what is kept packed\n"
    "  gathered       stage 3: what is kept after passes layer by layer\n"
    "  buckets        exchange buffers; statistics, tables: what kernels need\n"
    "  peak           an upper bound of a step's\n"
    "step_bytes_per_rank: what one step sends, as the runtime counts it;\n"
    "  gradients and weights without the padding, which is that of both. At\n"
    "  stage 3 weights are one gather of all: a trainer's passes gather each\n"
    "  layer twice\n"
    "copied_bytes_per_rank: written by packing and unpacking in a step, if\n"
    "  gradients that have a home are written there by backward\n"
    "wire_cost: what the planner weighs, in bytes on the wire: bytes sent,\n"
    "  copied bytes times --copy-cost, collectives times --collective-cost. "
    "It\n"
    "  adds what would travel after backward, and keeps to --buffer-budget\n"
    "  where it can\n"
    "blocks: second moments by what one is of: a head, a row, a column, a\n"
    "  tensor or an element; a factored matrix has rows and columns\n"
    "params: how many second moments each has, and their form: blocks,\n"
    "  factored, columns, elements or none; \"a+b\" of fused segments\n"
    "early_fraction: share of the gradient that can leave before backward\n"
    "  reaches the first layer\n"
    "split_would_save: what --blocks split would have less of, and the line\n"
    "  below a plan tells; negative: more; 0 for adamw and sgd, which are "
    "split\n"
    "  anyway\n"
    "  late_fraction  what is not early; scalar_bytes: of step_bytes_per_rank";

Json DescribePlan(const PlannedModel& planned) {
  const Plan& plan = planned.plan;
  const OptimizerOptions& options = planned.options;
  const int rank = LargestRank(plan, options);
  const StepBytes step = StepBytesOf(plan, options, rank);
  const MemoryReport memory = MemoryOf(plan, options, rank);
  Json json;
  json["model"] = planned.name;
  json["optimizer"] =
      OptimizerChoice{options.algorithm, options.second_moment}.name();
  json["parameters"] = Parameters(plan);
  json["ranks"] = plan.options.ranks * plan.options.replicas;
  DescribeChoices(options, plan, memory, &json);
  json["plan_seconds"] = planned.seconds;
  json["buckets"] = plan.buckets.size();
  json["padding_fraction"] = plan.PaddingFraction();
  json["imbalance"] = plan.Imbalance();
  json["in_place_fraction"] = plan.InPlaceFraction();
  json["early_fraction"] = plan.EarlyFraction();
  json["largest_bucket_bytes"] = plan.LargestBucketBytes();
  json["split_blocks"] = plan.split_blocks.size();
  json["copied_bytes_per_rank"] = step.copied();
  json["collectives"] = step.collectives();
  json["wire_cost"] = CostJson(step, options);
  json["blocks"] = BlocksOf(plan);
  json["params"] = ParamsJson(plan);
  json["largest_rank"] = rank;
  json["bytes_per_rank"] = MemoryJson(memory);
  json["step_bytes_per_rank"] = StepJson(step);
  return json;
}

Table EmptyPlanTable() {
  return {{{"model", Align::kLeft, 11},
           {"optimizer", Align::kLeft},
           {"ranks", Align::kRight, 5},
           {"padding", Align::kRight, 7},
           {"splits", Align::kRight, 6},
           {"plan ms", Align::kRight, 7},
           {"m MiB", Align::kRight, 8},
           {"v MiB", Align::kRight, 8},
           {"sent MiB", Align::kRight, 8},
           {"copied MiB", Align::kRight, 10},
           {"buffer MiB", Align::kRight, 10},
           {"total MiB", Align::kRight, 9}},
          {}};
}

std::vector<std::string> PlanCells(const Json& json) {
  const Json& held = json["bytes_per_rank"];
  const Json& step = json["step_bytes_per_rank"];
  const double sent = Mebibytes(step["gradients"]) + Mebibytes(step["weights"]);
  const double padding = 100 * json["padding_fraction"].get<double>();
  return {json["model"].get<std::string>(),
          json["optimizer"].get<std::string>(),
          absl::StrCat(json["ranks"].get<int>()),
          absl::StrFormat("%.3f%%", padding),
          absl::StrCat(json["split_blocks"].get<int>()),
          absl::StrFormat("%.1f", 1000 * json["plan_seconds"].get<double>()),
          absl::StrFormat("%.1f", Mebibytes(held["momentum"])),
          absl::StrFormat("%.2f", Mebibytes(held["second_moment"])),
          absl::StrFormat("%.1f", sent),
          absl::StrFormat("%.1f", Mebibytes(json["copied_bytes_per_rank"])),
          absl::StrFormat("%.1f", Mebibytes(held["buckets"])),
          absl::StrFormat("%.1f", Mebibytes(held["total"]))};
}

std::string ColumnsLine(const Json& json) {
  const Json& blocks = json["blocks"];
  const auto count = [&blocks](const char* kind) {
    return blocks[kind].get<int64_t>();
  };
  if (count("column") == 0) return "";
  std::string line =
      absl::StrFormat("  second moments: %d of rows, %d of columns",
                      count("row"), count("column"));
  const std::pair<const char*, const char*> others[] = {
      {"head", "heads"}, {"whole", "whole tensors"}, {"element", "elements"}};
  for (const auto& [kind, of] : others) {
    if (count(kind) == 0) continue;
    absl::StrAppendFormat(&line, ", %d of %s", count(kind), of);
  }
  absl::StrAppendFormat(&line, "; a step sends %.2f MiB of scalars\n",
                        Mebibytes(json["step_bytes_per_rank"]["scalars"]));
  return line;
}

}  // namespace zeromini::tools
