#include <memory>

#include "tools/flag_checks.h"
#include "tools/train/pretrain.h"
#include "tools/train/train_flags.h"
#include "tools/train/train_verbs.h"

namespace zeromini::tools {
namespace {

void AddEvaluationFlags(CLI::App& app, PretrainOptions& options) {
  app.add_option("--eval-every", options.eval_every, "Steps; 0: at the end")
      ->check(NotNegative())
      ->capture_default_str();
  app.add_option("--eval-batches", options.eval_batches,
                 "Batches of an evaluation")
      ->check(Count())
      ->capture_default_str();
}

void AddShardingFlags(CLI::App& app, PretrainOptions& options) {
  app.add_option("--stage", options.stage,
                 "ZeRO stage; 3 shards the weights, too")
      ->check(CLI::IsMember({1, 2, 3}))
      ->capture_default_str();
  app.add_option("--shard-group", options.shard_group,
                 "Ranks that share a copy of what is sharded; 0: all")
      ->check(NotNegative())
      ->capture_default_str();
  app.add_option("--gather-budget", options.gather_budget,
                 "Stage 3: bytes of gathered weights at a time, as 64MiB; 0: "
                 "no limit")
      ->transform(CLI::AsSizeValue(false))
      ->capture_default_str();
  app.add_option("--prefetch", options.prefetch,
                 "Stage 3: blocks gathered ahead of their use")
      ->check(NotNegative())
      ->capture_default_str();
}

void AddFormatFlags(CLI::App& app, PretrainOptions& options) {
  app.add_option("--dtype", options.dtype,
                 "Of weights and gradients; the arithmetic is fp32")
      ->check(CLI::IsMember({"fp32", "bf16", "fp16"}))
      ->capture_default_str();
  app.add_option("--master", options.master,
                 "What restores fp32 from 16-bit weights")
      ->check(CLI::IsMember({"none", "fp32", "remainder16", "remainder8"}))
      ->capture_default_str();
  app.add_option("--momentum", options.momentum,
                 "What momentum, and adamw's second moments, are stored as")
      ->check(CLI::IsMember({"fp32", "bf16", "int8"}))
      ->capture_default_str();
}

void AddTrainingFlags(CLI::App& app, TrainFlags& flags) {
  PretrainOptions& options = flags.options;
  app.add_option("--optimizer", options.optimizer, "Which update rule")
      ->check(CLI::IsMember({"adam-mini", "adamw", "torch-adamw"}))
      ->capture_default_str();
  app.add_option("--value-blocks", options.value_blocks,
                 "Adam-mini's blocks of the value projection")
      ->check(CLI::IsMember({"rows", "whole"}))
      ->capture_default_str();
  app.add_option("--second-moment", options.second_moment,
                 "Of adam-mini's parameters: the paper's blocks, or factored, "
                 "which is not Adam-mini")
      ->check(CLI::IsMember({"official", "factored"}))
      ->capture_default_str();
  app.add_option("--memory", options.memory, "Where weights live")
      ->check(CLI::IsMember({"flat", "external"}))
      ->capture_default_str();
  AddShardingFlags(app, options);
  AddFormatFlags(app, options);
  app.add_option("--gradient-wire", options.gradient_wire,
                 "What gradients travel as")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  app.add_option("--weight-wire", options.weight_wire,
                 "What weights travel as; bf16 keeps an fp32 master")
      ->check(CLI::IsMember({"fp32", "bf16"}))
      ->capture_default_str();
  AddScheduleFlags(app, flags);
  AddHyperFlags(app, flags);
}

void AddRunFlags(CLI::App& app, PretrainOptions& options) {
  app.add_option("--out", options.out, "Folder for metrics.jsonl and run.json")
      ->capture_default_str();
  app.add_flag("--overwrite", options.overwrite,
               "Replaces the run that --out holds");
  app.add_option("--name", options.name, "In reports (default: the folder's)");
  app.add_option("--json", options.json, "Copies the final run.json here");
  app.add_option("--prometheus", options.prometheus,
                 "Figures for node_exporter's textfile collector, at most once "
                 "a second: rank 0's, or each rank's own if the name has "
                 "{rank} in it, as in dir/zeromini-{rank}.prom");
  AddLaunchFlags(app, options);
}

int RunPretrain(const TrainFlags& flags) {
  const auto options = OptionsFrom(flags);
  return RunInGroup(options, [&](Communicator& group) {
    return Pretrain(*options, group).status();
  });
}

}  // namespace

void AddPretrain(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<TrainFlags>();
  flags->options.schedule.steps = 300;
  CLI::App* verb = app.add_subcommand(
      "pretrain", "Trains a model on a text file, on one rank or many");
  AddModelFlags(*verb, *flags);
  AddDataFlags(*verb, flags->options);
  AddEvaluationFlags(*verb, flags->options);
  AddTrainingFlags(*verb, *flags);
  AddRunFlags(*verb, flags->options);
  verb->callback([flags, exit_code] { *exit_code = RunPretrain(*flags); });
}

}  // namespace zeromini::tools
