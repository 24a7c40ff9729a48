// zeromini bench step: whole optimizer steps, ours and a replicated AdamW's in
// turn.

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tools/bench.h"
#include "tools/bench_group.h"
#include "tools/bench_step_run.h"
#include "tools/bench_stepper.h"
#include "tools/bench_workload.h"
#include "tools/files/terminal.h"
#include "tools/layout_flags.h"
#include "tools/optimizer_choice.h"
#include "tools/scaled_preset.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

struct Options : StepBenchOptions {
  GroupFlags group;
  std::string model;
  std::string scale = "1";
  int64_t params = int64_t{32} << 20;
  int layers = 8;
  std::vector<std::string> optimizers = {"adam-mini", "adamw"};
  std::vector<std::string> second_moments = {"official"};
  double compute_milliseconds = 0;
  double forward_share = 1.0 / 3;
  std::string compute = "wait";
  bool no_baseline = false;
  bool padding_layout = false;
  bool no_padding_layout = false;
};

absl::StatusOr<Workload> WorkloadFor(const Options& options) {
  Workload workload;
  if (options.model.empty()) {
    workload = MakeWorkload(options.params, options.layers);
  } else {
    ZEROMINI_ASSIGN_OR_RETURN(ModelPreset preset,
                              FindScaledPreset(options.model, options.scale));
    workload = WorkloadOf(std::move(preset));
  }
  const double compute = options.compute_milliseconds / 1e3;
  workload.forward_seconds = compute * options.forward_share;
  workload.backward_seconds = compute * (1 - options.forward_share);
  workload.spin = options.compute == "spin";
  return workload;
}

// By optimizer ours, and behind it ours by layer, for little padding; last the
// baseline.
absl::StatusOr<std::vector<StepperRecipe>> RecipesFor(const Options& options) {
  const bool by_padding =
      options.padding_layout ||
      (!options.model.empty() && !options.no_padding_layout);
  std::vector<StepperRecipe> recipes;
  ZEROMINI_ASSIGN_OR_RETURN(
      const std::vector<OptimizerChoice> choices,
      ChoicesOf(options.optimizers, options.second_moments));
  for (const OptimizerChoice& choice : choices) {
    recipes.push_back({StepperKind::kSharded, choice});
    if (by_padding) {
      recipes.push_back({StepperKind::kShardedByPadding, choice});
    }
  }
  if (!options.no_baseline) {
    recipes.push_back({StepperKind::kReplicated, {Algorithm::kAdamW}});
  }
  return recipes;
}

void AddModelFlags(CLI::App* verb, Options* options) {
  CLI::Option* const model = verb->add_option(
      "--model", options->model,
      "A preset of `zeromini plan`: its own tensors, in place of --params");
  verb->add_option("--scale", options->scale,
                   "1/k: divides the model's layers and vocabulary, never\n"
                   "widths")
      ->needs(model)
      ->capture_default_str();
  verb->add_option("--params", options->params,
                   "Parameters, about, in plain layers; 32Mi or 33554432")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(kFewestInALayer, int64_t{1} << 30))
      ->excludes(model)
      ->default_str("32Mi");
  verb->add_option("--layers", options->layers, "Layers that they make")
      ->check(CLI::Range(1, 1000))
      ->excludes(model)
      ->capture_default_str();
}

void AddContenderFlags(CLI::App* verb, Options* options) {
  verb->add_option("--optimizer", options->optimizers,
                   "adam-mini, adamw or both")
      ->delimiter(',')
      ->check(CLI::IsMember({"adam-mini", "adamw"}))
      ->capture_default_str();
  AddSecondMomentFlag(verb, &options->second_moments);
  verb->add_option("--stage", options->settings.stage,
                   "ZeRO stage; at 3 a pass gathers a layer and the next, and\n"
                   "lets go of what it leaves")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  AddLayoutFlags(verb, &options->settings.layout);
  verb->add_option("--clip", options->settings.clip,
                   "Global gradient norm; 0: off, and no look for gradients\n"
                   "that are not finite")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  verb->add_flag("--no-baseline", options->no_baseline,
                 "Without the all-reduce beside it: to count bytes");
  CLI::Option* const padding_layout = verb->add_flag(
      "--padding-layout", options->padding_layout,
      "Also each optimizer laid out by layer, for little padding, whatever\n"
      "it copies and holds, and the ratio to it; given with --model");
  verb->add_flag("--no-padding-layout", options->no_padding_layout,
                 "With --model: without it")
      ->excludes(padding_layout);
}

void AddComputeFlags(CLI::App* verb, Options* options) {
  verb->add_option("--compute-ms", options->compute_milliseconds,
                   "Forward and backward, spread over the parameters")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  verb->add_option("--forward-share", options->forward_share,
                   "Forward's share of it; backward is usually twice as long")
      ->check(CLI::Range(0.0, 1.0))
      ->default_str("1/3");
  verb->add_option("--compute", options->compute,
                   "wait: as for a device; spin: on this core")
      ->check(CLI::IsMember({"wait", "spin"}))
      ->capture_default_str();
}

void AddRunFlags(CLI::App* verb, Options* options) {
  verb->add_option("--repetitions", options->repetitions,
                   "Runs of each, of 3 steps and one before; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option(
          "--memory-budget", options->memory_budget,
          "Of a machine, all its ranks: 16GiB. What does not fit into\n"
          "it together takes turns, made anew for each run")
      ->transform(CLI::AsSizeValue(false))
      ->check(CLI::Range(int64_t{1}, int64_t{1} << 50))
      ->default_str("what is free");
  verb->add_option("--json", options->json, "Also write the results here");
}

absl::Status CheckLayers(const Options& options) {
  if (!options.model.empty() ||
      options.params / options.layers >= kFewestInALayer) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--params: ", options.params, " are too few for ",
                   options.layers, " layers: each needs ", kFewestInALayer));
}

int RunStep(const Options& options) {
  absl::Status status = CheckLayers(options);
  const auto workload = WorkloadFor(options);
  const auto recipes = RecipesFor(options);
  status.Update(workload.status());
  status.Update(recipes.status());
  if (!status.ok()) return ReportStatus("zeromini bench step", status);
  return RunOnGroup("step", options.group, [&](BenchRank& rank) {
    return RunStepBench(options, *workload, *recipes, rank);
  });
}

constexpr char kDescription[] =
    "Whole optimizer steps, and beside them an all-reduce of the whole\n"
    "gradient with AdamW of everything on every rank.\n"
    "Under mpirun: mpirun -n 4 zeromini bench step";
constexpr char kFooter[] =
    "Compute time is shared out by the elements of each parameter, in forward\n"
    "order and back. A rank holds 8 bytes a parameter at stage 1, and 4 to 8\n"
    "for each of its share of the state; the baseline 16.\n"
    "By padding: laid out by layer, for little padding.\n"
    "Layout, of rank 0: padding and in place are fractions of the elements in\n"
    "buckets; copied is what a step packs and unpacks (at stage 3 weights\n"
    "once); buffers are what exchanges run in, after the steps; collectives\n"
    "are those of a step, the scalars' included.\n"
    "copy_cost is the time of a copied byte over that of a byte that a rank\n"
    "sends in a reduce-scatter and all-gather of at most 64 MiB, and\n"
    "collective_cost_bytes the time of a tiny collective in such bytes: what\n"
    "OptimizerOptions takes under these names to weigh layouts on this group.\n"
    "JSON has both in every row, null on one rank.";

}  // namespace

void AddBenchStep(CLI::App& bench, int* exit_code) {
  CLI::App* verb = bench.add_subcommand("step", kDescription);
  verb->footer(kFooter);
  auto options = std::make_shared<Options>();
  AddGroupFlags(verb, &options->group);
  AddModelFlags(verb, options.get());
  AddContenderFlags(verb, options.get());
  AddComputeFlags(verb, options.get());
  AddRunFlags(verb, options.get());
  verb->callback([options, exit_code] { *exit_code = RunStep(*options); });
}

}  // namespace zeromini::tools
