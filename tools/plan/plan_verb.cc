// zeromini plan: what a model's optimizer would hold and move, before any GPU
// is rented.

#include <chrono>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "tools/config_preset.h"
#include "tools/files/apart.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/optimizer_choice.h"
#include "tools/plan/plan_checks.h"
#include "tools/plan/plan_flags.h"
#include "tools/plan/plan_report.h"
#include "tools/plan/split_saving.h"
#include "tools/scaled_preset.h"
#include "tools/verbs.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/plan_bytes.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::ordered_json;

void Warn(const std::vector<std::string>& warnings) {
  for (const std::string& warning : warnings) {
    std::fprintf(stderr, "zeromini plan: warning: %s\n",
                 ForTerminal(warning).c_str());
  }
}

struct Planned {
  Plan plan;
  Json json;  // One object of the list.
};

absl::StatusOr<Planned> PlanAndDescribe(const ModelPreset& preset,
                                        const OptimizerOptions& options,
                                        int ranks) {
  const auto begin = std::chrono::steady_clock::now();
  ZEROMINI_ASSIGN_OR_RETURN(Plan plan, PlanFor(preset.params, options, ranks));
  const std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - begin;
  Json json = DescribePlan({preset.name, options, plan, seconds.count()});
  return Planned{std::move(plan), std::move(json)};
}

// Of a plan that could split more than it does: Adam-mini's, of whole blocks.
absl::Status AddSplitSaving(const ModelPreset& preset, OptimizerOptions options,
                            int ranks, Json* whole) {
  const bool could = options.algorithm == Algorithm::kAdamMini &&
                     options.blocks == BlockCuts::kWhole;
  Json split = *whole;
  if (could) {
    options.blocks = BlockCuts::kSplitAtCuts;
    ZEROMINI_ASSIGN_OR_RETURN(Planned planned,
                              PlanAndDescribe(preset, options, ranks));
    split = std::move(planned.json);
  }
  (*whole)["split_would_save"] = SplitSaving(*whole, split);
  return absl::OkStatus();
}

absl::Status PlanOne(const PlanFlags& flags, const ModelPreset& preset,
                     const OptimizerOptions& options, int ranks, Json* list) {
  ZEROMINI_ASSIGN_OR_RETURN(Planned planned,
                            PlanAndDescribe(preset, options, ranks));
  Json& json = planned.json;
  ZEROMINI_RETURN_IF_ERROR(CheckGatherBudget(planned.plan, options));
  ZEROMINI_RETURN_IF_ERROR(AddSplitSaving(preset, options, ranks, &json));
  const auto buffers = json["bytes_per_rank"]["buckets"].get<int64_t>();
  Warn(WarningsOf(planned.plan, options, buffers));
  if (list->empty()) std::printf("%s", EmptyPlanTable().Header().c_str());
  std::printf(
      "%s%s", EmptyPlanTable().Line(PlanCells(json)).c_str(),
      (ColumnsLine(json) + SplitLine(json["split_would_save"])).c_str());
  if (flags.buckets) std::printf("%s", planned.plan.ToTable().c_str());
  list->push_back(std::move(json));
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ModelPreset>> FindModels(const PlanFlags& flags) {
  if (flags.models.empty() && flags.configs.empty()) {
    return absl::InvalidArgumentError("--model or --config is required");
  }
  std::vector<ModelPreset> presets;
  for (const std::string& name : flags.models) {
    ZEROMINI_ASSIGN_OR_RETURN(ModelPreset preset,
                              FindScaledPreset(name, flags.scale));
    presets.push_back(std::move(preset));
  }
  std::vector<std::string> warnings;
  for (const std::string& path : flags.configs) {
    ZEROMINI_ASSIGN_OR_RETURN(ModelPreset preset,
                              PresetFromConfig(path, &warnings));
    ZEROMINI_ASSIGN_OR_RETURN(preset, Scaled(std::move(preset), flags.scale));
    presets.push_back(std::move(preset));
  }
  Warn(warnings);
  for (ModelPreset& preset : presets) {
    for (ParamSpec& param : preset.params) param.dtype = DTypeOf(flags);
  }
  return presets;
}

absl::Status CheckValueBlocks(const PlanFlags& flags,
                              const std::vector<OptimizerChoice>& choices) {
  if (flags.value_blocks == "rows") return absl::OkStatus();
  for (const OptimizerChoice& choice : choices) {
    if (choice.algorithm == Algorithm::kAdamMini &&
        choice.second_moment == SecondMoment::kOfficial) {
      return absl::OkStatus();
    }
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "--value-blocks ", flags.value_blocks,
      " is for --optimizer adam-mini with --second-moment official: nothing "
      "else has blocks"));
}

absl::Status CheckFiles(const PlanFlags& flags) {
  std::vector<FlagFile> inputs;
  for (const std::string& config : flags.configs) {
    ZEROMINI_ASSIGN_OR_RETURN(const std::string path, ConfigPath(config));
    inputs.push_back({"--config", path});
  }
  return CheckApart(inputs, {{"--json", flags.json}});
}

absl::Status RunPlan(const CLI::App& verb, const PlanFlags& flags) {
  ZEROMINI_RETURN_IF_ERROR(CheckHaveUse(verb, flags));
  ZEROMINI_RETURN_IF_ERROR(CheckFiles(flags));
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(flags.json));
  OptimizerOptions options = OptionsOf(flags);
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<OptimizerChoice> choices,
                            ChoicesOf(flags.optimizers, flags.second_moments));
  ZEROMINI_RETURN_IF_ERROR(CheckValueBlocks(flags, choices));
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<ModelPreset> presets,
                            FindModels(flags));
  Json list = Json::array();
  for (const ModelPreset& preset : presets) {
    options.model = preset.shape;
    for (const OptimizerChoice& choice : choices) {
      options.algorithm = choice.algorithm;
      options.second_moment = choice.second_moment;
      for (int ranks : flags.ranks) {
        ZEROMINI_RETURN_IF_ERROR(PlanOne(flags, preset, options, ranks, &list));
      }
    }
  }
  return WriteJson(flags.json, list, 1);
}

}  // namespace

void AddPlan(CLI::App& app, int* exit_code) {
  CLI::App* verb = app.add_subcommand(
      "plan", "Plan a model's shards: padding, memory and bytes per step");
  auto flags = std::make_shared<PlanFlags>();
  AddPlanFlags(verb, flags.get());
  verb->footer(kPlanKeys);
  verb->callback([verb, flags, exit_code] {
    *exit_code = ReportStatus("zeromini plan", RunPlan(*verb, *flags));
  });
}

}  // namespace zeromini::tools
