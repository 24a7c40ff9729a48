#include "tools/report/run_tables.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace zeromini::tools {
namespace {

constexpr char kUnknown[] = "-";

std::string Loss(double loss) {
  return std::isfinite(loss) ? absl::StrFormat("%.4f", loss) : "not finite";
}

template <typename T, typename Show>
std::string Known(const std::optional<T>& value, Show show) {
  return value.has_value() ? std::string(show(*value)) : kUnknown;
}

std::string Count(const std::optional<int64_t>& count) {
  return Known(count, [](int64_t n) { return absl::StrCat(n); });
}

std::string TextOrUnknown(const std::string& text) {
  return text.empty() ? kUnknown : text;
}

std::string BytesPerParameter(const RunRecord& run) {
  if (!run.state_bytes || !run.ranks || run.parameters.value_or(0) == 0) {
    return kUnknown;
  }
  return absl::StrFormat("%.3f", static_cast<double>(*run.state_bytes) *
                                     static_cast<double>(*run.ranks) /
                                     static_cast<double>(*run.parameters));
}

template <typename T>
nlohmann::json OrNull(const std::optional<T>& value) {
  return value.has_value() ? nlohmann::json(*value) : nlohmann::json();
}

struct Spread {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  double sum = 0;
  int64_t count = 0;
  void Take(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
    sum += value;
    ++count;
  }
  double mean() const { return sum / static_cast<double>(count); }
  double half() const { return (high - low) / 2; }
};

std::string OptimizerAndFormats(const RunRecord& run) {
  const bool plain = (run.dtype.empty() || run.dtype == "fp32") &&
                     (run.momentum.empty() || run.momentum == "fp32");
  if (plain) return run.optimizer;
  return absl::StrCat(run.optimizer, ", ", run.dtype, "/", run.master, "/",
                      run.momentum);
}

void FillGaps(std::vector<RunGroup>& groups) {
  std::map<int64_t, double> best;
  for (const RunGroup& group : groups) {
    if (group.optimizer != "adamw") continue;
    const auto [found, added] =
        best.emplace(group.steps, group.validation_mean);
    if (!added) found->second = std::min(found->second, group.validation_mean);
  }
  for (RunGroup& group : groups) {
    const auto found = best.find(group.steps);
    group.gap = found == best.end() ? std::numeric_limits<double>::quiet_NaN()
                                    : group.validation_mean / found->second - 1;
  }
}

}  // namespace

std::string HumanBytes(double bytes) {
  const char* const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  int unit = 0;
  while (bytes >= 1024 && unit < 4) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? absl::StrFormat("%.0f B", bytes)
                   : absl::StrFormat("%.2f %s", bytes, units[unit]);
}

Table ResultTable(const std::vector<RunRecord>& runs) {
  Table table;
  table.columns = {{"run", Align::kLeft},
                   {"optimizer"},
                   {"ranks"},
                   {"stage"},
                   {"steps"},
                   {"training"},
                   {"validation"},
                   {"tokens/s"},
                   {"state/rank"},
                   {"bytes/param"}};
  for (const RunRecord& run : runs) {
    table.rows.push_back(
        {run.name, run.finished ? run.optimizer : "not finished",
         Count(run.ranks), Count(run.stage), absl::StrCat(run.training.size()),
         Known(run.training_loss, Loss), Known(run.validation_loss, Loss),
         Known(run.tokens_per_second,
               [](double rate) { return absl::StrFormat("%.0f", rate); }),
         Known(run.state_bytes,
               [](int64_t n) { return HumanBytes(static_cast<double>(n)); }),
         BytesPerParameter(run)});
  }
  return table;
}

Table SetupTable(const std::vector<RunRecord>& runs) {
  Table table;
  table.columns = {{"run", Align::kLeft}, {"weights"}, {"master"},
                   {"momentum"},          {"stage"},   {"shard group"},
                   {"accumulate"}};
  for (const RunRecord& run : runs) {
    table.rows.push_back(
        {run.name, TextOrUnknown(run.dtype), TextOrUnknown(run.master),
         TextOrUnknown(run.momentum), Count(run.stage),
         Known(run.shard_group,
               [](int64_t n) { return n == 0 ? "all" : absl::StrCat(n); }),
         Count(run.micro_steps)});
  }
  return table;
}

Table BytesTable(const std::vector<RunRecord>& runs) {
  const char* const keys[] = {"gradients",    "weights", "scalars",
                              "state",        "padding", "inside_host",
                              "between_hosts"};
  Table table;
  table.columns = {{"run", Align::kLeft}, {"gradients"},    {"weights"},
                   {"scalars"},           {"state"},        {"padding"},
                   {"inside host"},       {"between hosts"}};
  for (const RunRecord& run : runs) {
    std::vector<std::string> row = {run.name};
    for (const char* key : keys) {
      const auto found = run.bytes.find(key);
      row.push_back(found == run.bytes.end() ? kUnknown
                                             : HumanBytes(found->second));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::vector<RunGroup> GroupRuns(const std::vector<RunRecord>& runs) {
  std::map<std::tuple<int64_t, std::string, double>, std::pair<Spread, Spread>>
      spreads;
  for (const RunRecord& run : runs) {
    if (!run.finished) continue;
    auto& [training, validation] =
        spreads[{run.steps.value_or(0), OptimizerAndFormats(run),
                 run.learning_rate.value_or(0)}];
    training.Take(run.training_loss.value_or(NAN));
    validation.Take(run.validation_loss.value_or(NAN));
  }
  std::vector<RunGroup> groups;
  for (const auto& [key, value] : spreads) {
    RunGroup group;
    std::tie(group.steps, group.optimizer, group.learning_rate) = key;
    group.runs = value.first.count;
    group.training_mean = value.first.mean();
    group.training_spread = value.first.half();
    group.validation_mean = value.second.mean();
    group.validation_spread = value.second.half();
    groups.push_back(group);
  }
  FillGaps(groups);
  return groups;
}

Table GroupTable(const std::vector<RunGroup>& groups) {
  Table table;
  table.columns = {{"optimizer", Align::kLeft},
                   {"steps"},
                   {"lr"},
                   {"runs"},
                   {"training"},
                   {"validation"},
                   {"vs best adamw"}};
  for (const RunGroup& group : groups) {
    const auto loss = [&](double mean, double spread) {
      return group.runs > 1 ? absl::StrFormat("%.4f ± %.4f", mean, spread)
                            : Loss(mean);
    };
    table.rows.push_back(
        {group.optimizer, absl::StrCat(group.steps),
         absl::StrFormat("%g", group.learning_rate), absl::StrCat(group.runs),
         loss(group.training_mean, group.training_spread),
         loss(group.validation_mean, group.validation_spread),
         std::isfinite(group.gap) ? absl::StrFormat("%+.2f %%", 100 * group.gap)
                                  : "-"});
  }
  return table;
}

nlohmann::json ToJson(const std::vector<RunRecord>& runs) {
  nlohmann::json list = nlohmann::json::array();
  for (const RunRecord& run : runs) {
    list.push_back({{"name", run.name},
                    {"optimizer", run.optimizer},
                    {"finished", run.finished},
                    {"ranks", OrNull(run.ranks)},
                    {"stage", OrNull(run.stage)},
                    {"dtype", run.dtype},
                    {"master", run.master},
                    {"momentum", run.momentum},
                    {"shard_group", OrNull(run.shard_group)},
                    {"micro_steps", OrNull(run.micro_steps)},
                    {"steps", OrNull(run.steps)},
                    {"parameters", OrNull(run.parameters)},
                    {"learning_rate", OrNull(run.learning_rate)},
                    {"training_loss", OrNull(run.training_loss)},
                    {"validation_loss", OrNull(run.validation_loss)},
                    {"tokens_per_second", OrNull(run.tokens_per_second)},
                    {"state_bytes_per_rank", OrNull(run.state_bytes)},
                    {"bytes", run.bytes},
                    {"seconds", run.seconds}});
  }
  return list;
}

nlohmann::json ToJson(const std::vector<RunGroup>& groups) {
  nlohmann::json list = nlohmann::json::array();
  for (const RunGroup& group : groups) {
    list.push_back({{"optimizer", group.optimizer},
                    {"steps", group.steps},
                    {"learning_rate", group.learning_rate},
                    {"runs", group.runs},
                    {"training_loss", group.training_mean},
                    {"training_spread", group.training_spread},
                    {"validation_loss", group.validation_mean},
                    {"validation_spread", group.validation_spread},
                    {"gap", group.gap}});
  }
  return list;
}

}  // namespace zeromini::tools
