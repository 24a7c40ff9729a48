#include "tools/layout_flags.h"

#include <string>

#include "tools/flag_checks.h"

namespace zeromini::tools {
namespace {

// One of two values, by its word.
template <typename Value>
void AddChoice(CLI::App* verb, const char* flag, Value* value, Value first,
               Value second, const char* what) {
  verb->add_option_function<std::string>(
          flag,
          [value, first, second](const std::string& word) {
            *value = word == WordOf(first) ? first : second;
          },
          what)
      ->check(CLI::IsMember({WordOf(first), WordOf(second)}))
      ->default_str(WordOf(*value));
}

void AddCostFlags(CLI::App* verb, OptimizerOptions* options) {
  verb->add_option("--copy-cost", options->copy_cost,
                   "Of a copied byte, in bytes on the wire")
      ->check(NotNegative())
      ->capture_default_str();
  AddSize(verb, "--collective-cost", &options->collective_cost_bytes,
          "Of starting a collective, in bytes on the wire, as 128KiB");
}

}  // namespace

void AddLayoutFlags(CLI::App* verb, OptimizerOptions* options) {
  AddChoice(verb, "--blocks", &options->blocks, BlockCuts::kWhole,
            BlockCuts::kSplitAtCuts,
            "Whole on one rank, or split wherever a shard ends");
  AddChoice(verb, "--bucketing", &options->bucketing, Bucketing::kCheapest,
            Bucketing::kByLayer,
            "The cheapest layout, or a bucket for each layer or two");
  AddSize(verb, "--bucket-bytes", &options->bucket_bytes,
          "About how large a bucket is in fp32, as 16MiB; 0: by the\n"
          "planner. Through buffers an eighth of their budget at most");
  AddSize(verb, "--buffer-budget", &options->buffer_budget_bytes,
          "What exchange buffers may take, as 64MiB; 0: 256 MiB, or\nmore with "
          "a warning where gradients come in another order");
  AddCostFlags(verb, options);
}

const char* WordOf(BlockCuts blocks) {
  return blocks == BlockCuts::kWhole ? "whole" : "split";
}

const char* WordOf(Bucketing bucketing) {
  return bucketing == Bucketing::kCheapest ? "cheapest" : "layer";
}

}  // namespace zeromini::tools
