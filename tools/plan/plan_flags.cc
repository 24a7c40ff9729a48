#include "tools/plan/plan_flags.h"

#include <initializer_list>

#include "tools/flag_checks.h"
#include "tools/layout_flags.h"
#include "tools/optimizer_choice.h"

namespace zeromini::tools {
namespace {

// Of `values`, the one with this name; the first if there is none.
template <typename Value, typename NameOf>
Value Named(const std::string& name, std::initializer_list<Value> values,
            NameOf name_of) {
  for (const Value value : values) {
    if (name == name_of(value)) return value;
  }
  return *values.begin();
}

void AddWord(CLI::App* verb, const char* flag, std::string* word,
             std::vector<std::string> words, const char* what) {
  verb->add_option(flag, *word, what)
      ->check(CLI::IsMember(std::move(words)))
      ->capture_default_str();
}

void AddModelFlags(CLI::App* verb, PlanFlags* flags) {
  verb->add_option("--model", flags->models, "Models, separated by commas")
      ->delimiter(',');
  verb->add_option("--config", flags->configs,
                   "Hugging Face config.json files, separated by commas")
      ->delimiter(',');
  verb->add_option("--scale", flags->scale,
                   "1/k divides layers and vocabulary, never widths")
      ->capture_default_str();
  verb->add_option("--ranks", flags->ranks, "Ranks, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, kMaxPlanRanks))
      ->required();
}

void AddFormatFlags(CLI::App* verb, PlanFlags* flags) {
  AddWord(verb, "--dtype", &flags->dtype, {"fp32", "bf16", "fp16"},
          "Of weights and gradients");
  AddWord(verb, "--master", &flags->master,
          {"none", "fp32", "remainder16", "remainder8"},
          "What restores fp32 from 16-bit weights; fp32 ones have none");
  AddWord(verb, "--state", &flags->state, {"fp32", "bf16", "int8"},
          "What momentum, and adamw's second moments, are stored as");
  AddWord(verb, "--gradient-wire", &flags->gradient_wire, {"fp32", "bf16"},
          "What gradients travel as");
  AddWord(verb, "--weight-wire", &flags->weight_wire, {"fp32", "bf16"},
          "What fp32 weights travel as; bf16 keeps an fp32 master");
}

void AddStepFlags(CLI::App* verb, PlanFlags* flags) {
  OptimizerOptions& options = flags->options;
  verb->add_option("--optimizer", flags->optimizers,
                   "adam-mini, adamw, sgd, separated by commas")
      ->delimiter(',')
      ->capture_default_str();
  verb->add_option("--stage", options.stage, "ZeRO stage")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  verb->add_option("--shard-group", options.shard_ranks,
                   "Ranks that share a copy of what is sharded; 0: all")
      ->check(NotNegative())
      ->capture_default_str();
  verb->add_option("--micro-steps", options.micro_steps,
                   "Gradients of each tensor before a step")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  AddSize(verb, "--gather-budget", &options.gather_budget_bytes,
          "Stage 3: bytes of gathered weights at a time, as 64MiB;\n"
          "0: no limit");
  verb->add_option("--prefetch", options.prefetch,
                   "Stage 3: layer sets gathered ahead of their use")
      ->check(NotNegative())
      ->capture_default_str();
  AddWord(verb, "--memory", &flags->memory, {"flat", "external"},
          "Where weights live");
}

}  // namespace

void AddPlanFlags(CLI::App* verb, PlanFlags* flags) {
  AddModelFlags(verb, flags);
  AddStepFlags(verb, flags);
  AddFormatFlags(verb, flags);
  AddWord(verb, "--value-blocks", &flags->value_blocks, {"rows", "whole"},
          "Blocks of the value projection");
  AddSecondMomentFlag(verb, &flags->second_moments);
  AddLayoutFlags(verb, &flags->options);
  verb->add_flag("--buckets", flags->buckets, "Print every bucket");
  verb->add_option("--json", flags->json, "Write the plans to this file");
}

DType DTypeOf(const PlanFlags& flags) {
  return Named(flags.dtype,
               {DType::kFloat32, DType::kBFloat16, DType::kFloat16}, DTypeName);
}

OptimizerOptions OptionsOf(const PlanFlags& flags) {
  OptimizerOptions options = flags.options;
  options.master =
      Named(flags.master,
            {MasterFormat::kNone, MasterFormat::kFloat32,
             MasterFormat::kRemainder16, MasterFormat::kRemainder8},
            MasterFormatName);
  options.state =
      Named(flags.state,
            {StateFormat::kFloat32, StateFormat::kBFloat16, StateFormat::kInt8},
            StateFormatName);
  const auto wires = {DType::kFloat32, DType::kBFloat16};
  options.gradient_wire = Named(flags.gradient_wire, wires, DTypeName);
  options.weight_wire = Named(flags.weight_wire, wires, DTypeName);
  options.memory =
      flags.memory == "flat" ? MemoryForm::kFlat : MemoryForm::kExternal;
  options.value_blocks =
      flags.value_blocks == "rows" ? ValueBlocks::kRows : ValueBlocks::kWhole;
  return options;
}

}  // namespace zeromini::tools
