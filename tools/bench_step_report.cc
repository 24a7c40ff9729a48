#include "tools/bench_step_report.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/files/terminal.h"
#include "tools/report/table.h"
#include "zeromini/plan_bytes.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

// What must leave a host in a step, padding left out: what a rank sends where
// each host is one. At stage 3 it depends on what is gathered how often.
std::optional<int64_t> BoundBetweenHosts(const StepConditions& conditions) {
  if (conditions.stage == 3) return std::nullopt;
  OptimizerOptions options;
  options.stage = conditions.stage;
  options.model = conditions.workload->shape;
  const absl::StatusOr<Plan> plan =
      PlanFor(conditions.workload->params, options, conditions.hosts);
  if (!plan.ok()) return std::nullopt;
  const StepBytes bytes = StepBytesOf(*plan, options, 0);
  return bytes.gradients.bytes + bytes.weights.bytes - bytes.padding();
}

void AddCounts(const StepResult& result, const StepConditions& conditions,
               Json* row) {
  for (const char* key : {"inter_host_bytes", "inter_host_bound",
                          "inter_host_ratio", "collectives"}) {
    (*row)[key] = nullptr;
  }
  if (!result.counted) return;
  const StepSamples& samples = result.samples;
  const int64_t sent = samples.sent_between_hosts / samples.steps;
  (*row)["inter_host_bytes"] = sent;
  (*row)["collectives"] = static_cast<double>(samples.collectives) /
                          static_cast<double>(samples.steps);
  const std::optional<int64_t> bound = BoundBetweenHosts(conditions);
  if (!bound) return;
  (*row)["inter_host_bound"] = *bound;
  if (*bound > 0) {
    (*row)["inter_host_ratio"] =
        static_cast<double>(sent) / static_cast<double>(*bound);
  }
}

void AddLayout(const StepResult& result, Json* row) {
  for (const char* key :
       {"stage", "buckets", "padding_fraction", "in_place_fraction",
        "copied_bytes_per_rank", "split_blocks", "buffer_bytes"}) {
    (*row)[key] = nullptr;
  }
  if (result.buffer_bytes) (*row)["buffer_bytes"] = *result.buffer_bytes;
  if (!result.layout) return;
  const LayoutFacts& layout = *result.layout;
  (*row)["stage"] = layout.stage;
  (*row)["buckets"] = layout.buckets;
  (*row)["padding_fraction"] = layout.padding_fraction;
  (*row)["in_place_fraction"] = layout.in_place_fraction;
  (*row)["copied_bytes_per_rank"] = layout.copied_bytes;
  (*row)["split_blocks"] = layout.split_blocks;
}

void AddRatios(const StepResult& result, Json* row) {
  if (result.to_baseline) {
    (*row)["ratio_to_baseline"] = result.to_baseline->median;
    (*row)["ratio_low"] = result.to_baseline->low;
    (*row)["ratio_high"] = result.to_baseline->high;
  }
  if (result.to_padding_layout) {
    (*row)["ratio_to_padding_layout"] = result.to_padding_layout->median;
    (*row)["ratio_to_padding_layout_low"] = result.to_padding_layout->low;
    (*row)["ratio_to_padding_layout_high"] = result.to_padding_layout->high;
  }
}

// A number of a row, in `unit`s; "-" if there is none.
std::string Cell(const Json& row, const char* key, int digits,
                 double unit = 1) {
  if (!row.contains(key) || row[key].is_null()) return "-";
  return absl::StrFormat("%.*f", digits, row[key].get<double>() / unit);
}

Table Times(const Json& rows) {
  Table table = {{{"optimizer", Align::kLeft},
                  {"implementation", Align::kLeft},
                  {"ms"},
                  {"exposed ms"},
                  {"update ms"},
                  {"inter-host"},
                  {"/ bound"},
                  {"/ baseline"},
                  {"low"},
                  {"high"},
                  {"/ by padding"},
                  {"low"},
                  {"high"}},
                 {}};
  for (const Json& row : rows) {
    table.rows.push_back(
        {row["optimizer"].get<std::string>(),
         row["implementation"].get<std::string>(),
         Cell(row, "seconds", 2, 1e-3),
         Cell(row, "exposed_comm_seconds", 2, 1e-3),
         Cell(row, "update_seconds", 2, 1e-3), Cell(row, "inter_host_bytes", 0),
         Cell(row, "inter_host_ratio", 4), Cell(row, "ratio_to_baseline", 3),
         Cell(row, "ratio_low", 2), Cell(row, "ratio_high", 2),
         Cell(row, "ratio_to_padding_layout", 3),
         Cell(row, "ratio_to_padding_layout_low", 2),
         Cell(row, "ratio_to_padding_layout_high", 2)});
  }
  return table;
}

Table Layouts(const Json& rows) {
  constexpr double kMebibyte = 1 << 20;
  Table table = {{{"optimizer", Align::kLeft},
                  {"implementation", Align::kLeft},
                  {"stage"},
                  {"buckets"},
                  {"padding"},
                  {"in place"},
                  {"copied MiB"},
                  {"buffers MiB"},
                  {"collectives"}},
                 {}};
  for (const Json& row : rows) {
    table.rows.push_back(
        {row["optimizer"].get<std::string>(),
         row["implementation"].get<std::string>(), Cell(row, "stage", 0),
         Cell(row, "buckets", 0), Cell(row, "padding_fraction", 4),
         Cell(row, "in_place_fraction", 4),
         Cell(row, "copied_bytes_per_rank", 1, kMebibyte),
         Cell(row, "buffer_bytes", 1, kMebibyte), Cell(row, "collectives", 1)});
  }
  return table;
}

}  // namespace

std::string InGibibytes(int64_t bytes) {
  return absl::StrFormat("%.2f GiB",
                         static_cast<double>(bytes) / (int64_t{1} << 30));
}

std::string StepHeading(const StepConditions& conditions) {
  const Workload& workload = *conditions.workload;
  const double compute = workload.forward_seconds + workload.backward_seconds;
  std::string text = absl::StrFormat(
      "%s%.1f Mi parameters in %d layers on %d ranks (%s) and %d hosts, %g ms "
      "of compute (%s), %g of it in forward; a step of the slowest rank, "
      "medians of %d interleaved runs of %d\n",
      workload.model.empty() ? "" : ForTerminal(workload.model) + ", ",
      static_cast<double>(workload.elements) / (1 << 20), workload.layers,
      conditions.ranks, conditions.comm, conditions.hosts, compute * 1e3,
      workload.spin ? "spin" : "wait", workload.forward_seconds * 1e3,
      conditions.repetitions, conditions.steps_in_a_row);
  if (conditions.one_at_a_time) {
    absl::StrAppend(&text, "One at a time, each made anew for each run: all ",
                    "together take ", InGibibytes(conditions.together_bytes),
                    " of a machine's ", InGibibytes(conditions.machine_bytes),
                    "\n");
  }
  return text;
}

nlohmann::json StepRow(const StepResult& result,
                       const StepConditions& conditions) {
  const Workload& workload = *conditions.workload;
  const StepSamples& samples = result.samples;
  Json row = {
      {"optimizer", result.optimizer},
      {"implementation", result.implementation},
      {"model", nullptr},
      {"parameters", workload.elements},
      {"layers", workload.layers},
      {"ranks", conditions.ranks},
      {"hosts", conditions.hosts},
      {"comm", conditions.comm},
      {"clip", conditions.clip},
      {"compute", workload.spin ? "spin" : "wait"},
      {"compute_seconds", workload.forward_seconds + workload.backward_seconds},
      {"forward_seconds", workload.forward_seconds},
      {"one_at_a_time", conditions.one_at_a_time},
      {"seconds", Median(samples.total)},
      {"exposed_comm_seconds", Median(samples.exposed)},
      {"update_seconds", Median(samples.update)}};
  if (!workload.model.empty()) row["model"] = workload.model;
  AddLayout(result, &row);
  AddCounts(result, conditions, &row);
  AddRatios(result, &row);
  conditions.costs.AddTo(&row);
  return row;
}

std::string StepTables(const nlohmann::json& rows) {
  return absl::StrCat(Times(rows).ToText(), "\n", Layouts(rows).ToText());
}

}  // namespace zeromini::tools
