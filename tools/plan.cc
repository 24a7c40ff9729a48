// zeromini plan: what a model's optimizer would hold and move, before any GPU
// is rented.

#include "zeromini/plan.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/config_preset.h"
#include "tools/files/apart.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/flag_checks.h"
#include "tools/report/table.h"
#include "tools/scaled_preset.h"
#include "tools/verbs.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t kFloatBytes = 4;

struct PlanArgs {
  std::vector<std::string> models;
  std::vector<std::string> configs;
  std::vector<int> ranks;
  std::vector<std::string> optimizers = {"adam-mini", "adamw"};
  int stage = 1;
  std::string value_blocks = "rows";
  int64_t bucket_bytes = 0;
  std::string scale = "1";
  bool buckets = false;
  std::string json;
};

constexpr char kFormulas[] =
    "bytes_per_rank, of the largest rank, fp32, padding included:\n"
    "  weights        4*parameters, and the padding of buckets cut in place\n"
    "                 (flat memory); at stage 3 4*sum of segments\n"
    "  gradients      as weights, and 4*wire segments of packed buckets; at\n"
    "                 stages 2 and 3 4*sum of wire segments\n"
    "  momentum       4*the rank's elements\n"
    "  second_moment  4*the rank's blocks (elements for AdamW)\n"
    "  master         0: the weights are fp32\n"
    "  buckets        3 buffers as large as the largest bucket exchanged\n"
    "                 through one: every bucket at stages 2 and 3, packed\n"
    "                 ones at stage 1; 0 on one rank\n"
    "step_bytes_per_rank:\n"
    "  gradients, weights  (N-1)/N * 4*elements on the wire\n"
    "  padding             (N-1) * 4*segments of both, less the two above\n"
    "  scalars             2(N-1)/N * 8*(21 + parameters + 21*split blocks)\n"
    "At stage 3 weights are gathered a second time for backward, which the\n"
    "trainer's passes cause and this table leaves out.";

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
  for (const BlockSegment& segment : param.blocks) {
    const char* kind = BlockKindName(segment.kind.value());
    counts[kind] =
        counts[kind].get<int64_t>() +
        param.rows / period * (segment.rows / segment.rows_per_block);
  }
}

Json BlocksOf(const Plan& plan) {
  Json counts = {{"head", 0}, {"row", 0}, {"whole", 0}, {"element", 0}};
  for (const PlannedParam& param : plan.params) {
    if (!param.has_state()) continue;
    CountBlocks(param, counts);
  }
  return counts;
}

int64_t LargestMomentum(const Plan& plan) {
  std::vector<int64_t> elements(plan.options.ranks, 0);
  for (const BucketPlan& bucket : plan.buckets) {
    for (int rank = 0; rank < plan.options.ranks; ++rank) {
      for (const Run& run : bucket.runs[rank]) {
        elements[rank] += run.state_elements;
      }
    }
  }
  return *std::max_element(elements.begin(), elements.end());
}

int64_t LargestSecondMoment(const Plan& plan) {
  std::vector<int64_t> blocks(plan.options.ranks, 0);
  for (const BucketPlan& bucket : plan.buckets) {
    for (int rank = 0; rank < plan.options.ranks; ++rank) {
      for (const Run& run : bucket.runs[rank]) {
        const PlannedParam& param = plan.params[run.param];
        if (param.element_state) {
          blocks[rank] += run.state_elements;
        }
        for (const BlockSpan& span : SpansOf(param, run)) {
          blocks[rank] += span.blocks;
        }
      }
    }
  }
  return *std::max_element(blocks.begin(), blocks.end());
}

struct Sums {
  int64_t elements = 0, segments = 0;
  int64_t wire_elements = 0, wire_segments = 0;
  int64_t largest_exchanged = 0;
  int64_t in_place_padding = 0;
  int64_t packed_wire_segments = 0;
};

Sums SumBuckets(const Plan& plan) {
  Sums sums;
  for (const BucketPlan& bucket : plan.buckets) {
    sums.elements += bucket.elements;
    sums.segments += bucket.segment;
    sums.wire_elements += bucket.wire_elements;
    sums.wire_segments += bucket.wire_segment;
    if (bucket.in_place()) {
      sums.in_place_padding +=
          bucket.segment * plan.options.ranks - bucket.elements;
    } else {
      sums.packed_wire_segments += bucket.wire_segment;
    }
    if (plan.options.stage >= 2 || !bucket.in_place()) {
      sums.largest_exchanged = std::max(
          {sums.largest_exchanged, bucket.segment, bucket.wire_segment});
    }
  }
  return sums;
}

Json BytesPerRank(const Plan& plan, const Sums& sums) {
  constexpr int kBuffers = 3;
  const int64_t full = kFloatBytes * (Parameters(plan) + sums.in_place_padding);
  const int stage = plan.options.stage;
  const int64_t ranks = plan.options.ranks;
  Json bytes;
  bytes["weights"] = stage == 3 ? kFloatBytes * sums.segments : full;
  bytes["gradients"] = stage == 1
                           ? full + kFloatBytes * sums.packed_wire_segments
                           : kFloatBytes * sums.wire_segments;
  bytes["momentum"] = kFloatBytes * LargestMomentum(plan);
  bytes["second_moment"] = kFloatBytes * LargestSecondMoment(plan);
  bytes["master"] = 0;
  bytes["buckets"] =
      ranks == 1 ? 0 : kBuffers * kFloatBytes * ranks * sums.largest_exchanged;
  return bytes;
}

Json StepBytesPerRank(const Plan& plan, const Sums& sums) {
  const int64_t ranks = plan.options.ranks;
  const auto share = [ranks](int64_t bytes) {
    return bytes / ranks * (ranks - 1) + bytes % ranks * (ranks - 1) / ranks;
  };
  const int64_t gradients = share(kFloatBytes * sums.wire_elements);
  const int64_t weights = share(kFloatBytes * sums.elements);
  const int64_t scalars =
      8 * ScalarWords(static_cast<int64_t>(plan.params.size()),
                      static_cast<int64_t>(plan.split_blocks.size()));
  Json bytes;
  bytes["gradients"] = gradients;
  bytes["weights"] = weights;
  bytes["scalars"] = 2 * share(scalars);
  bytes["padding"] =
      kFloatBytes * (ranks - 1) * (sums.wire_segments + sums.segments) -
      gradients - weights;
  return bytes;
}

Json Describe(const ModelPreset& preset, const Plan& plan, double seconds) {
  const Sums sums = SumBuckets(plan);
  Json json;
  json["model"] = preset.name;
  json["optimizer"] = AlgorithmName(plan.options.algorithm);
  json["parameters"] = Parameters(plan);
  json["ranks"] = plan.options.ranks;
  json["stage"] = plan.options.stage;
  json["plan_seconds"] = seconds;
  json["padding_fraction"] = plan.PaddingFraction();
  json["imbalance"] = plan.Imbalance();
  json["in_place_fraction"] = plan.InPlaceFraction();
  json["largest_bucket_bytes"] = plan.LargestBucketBytes();
  json["split_blocks"] = plan.split_blocks.size();
  json["blocks"] = BlocksOf(plan);
  json["bytes_per_rank"] = BytesPerRank(plan, sums);
  json["step_bytes_per_rank"] = StepBytesPerRank(plan, sums);
  return json;
}

double Mebibytes(const Json& bytes) {
  return static_cast<double>(bytes.get<int64_t>()) / (1 << 20);
}

Table EmptyTable() {
  return {{{"model", Align::kLeft, 13},
           {"optimizer", Align::kLeft},
           {"ranks", Align::kRight, 5},
           {"padding", Align::kRight, 7},
           {"in place", Align::kRight, 8},
           {"splits", Align::kRight, 6},
           {"plan ms", Align::kRight, 7},
           {"m MiB", Align::kRight, 9},
           {"v MiB", Align::kRight, 9},
           {"step MiB", Align::kRight, 10},
           {"buffers MiB", Align::kRight, 10}},
          {}};
}

std::vector<std::string> CellsOf(const Json& json) {
  const Json& held = json["bytes_per_rank"];
  const Json& step = json["step_bytes_per_rank"];
  const double sent = Mebibytes(step["gradients"]) + Mebibytes(step["weights"]);
  return {
      json["model"].get<std::string>(),
      json["optimizer"].get<std::string>(),
      absl::StrCat(json["ranks"].get<int>()),
      absl::StrFormat("%.3f%%", 100 * json["padding_fraction"].get<double>()),
      absl::StrFormat("%.1f%%", 100 * json["in_place_fraction"].get<double>()),
      absl::StrCat(json["split_blocks"].get<int>()),
      absl::StrFormat("%.1f", 1000 * json["plan_seconds"].get<double>()),
      absl::StrFormat("%.2f", Mebibytes(held["momentum"])),
      absl::StrFormat("%.3f", Mebibytes(held["second_moment"])),
      absl::StrFormat("%.1f", sent),
      absl::StrFormat("%.1f", Mebibytes(held["buckets"]))};
}

absl::Status PlanOne(const PlanArgs& args, const ModelPreset& preset,
                     PlanOptions options, Json* list) {
  options.model = preset.shape;
  options.memory = MemoryForm::kFlat;
  const auto begin = std::chrono::steady_clock::now();
  ZEROMINI_ASSIGN_OR_RETURN(const Plan plan, MakePlan(preset.params, options));
  const std::chrono::duration<double> seconds =
      std::chrono::steady_clock::now() - begin;
  list->push_back(Describe(preset, plan, seconds.count()));
  std::printf("%s", EmptyTable().Line(CellsOf(list->back())).c_str());
  if (args.buckets) std::printf("%s", plan.ToTable().c_str());
  return absl::OkStatus();
}

absl::StatusOr<std::vector<ModelPreset>> FindModels(const PlanArgs& args) {
  if (args.models.empty() && args.configs.empty()) {
    return absl::InvalidArgumentError("--model or --config is required");
  }
  std::vector<ModelPreset> presets;
  for (const std::string& name : args.models) {
    ZEROMINI_ASSIGN_OR_RETURN(ModelPreset preset,
                              FindScaledPreset(name, args.scale));
    presets.push_back(std::move(preset));
  }
  std::vector<std::string> warnings;
  for (const std::string& path : args.configs) {
    ZEROMINI_ASSIGN_OR_RETURN(ModelPreset preset,
                              PresetFromConfig(path, &warnings));
    ZEROMINI_ASSIGN_OR_RETURN(preset, Scaled(std::move(preset), args.scale));
    presets.push_back(std::move(preset));
  }
  for (const std::string& warning : warnings) {
    std::fprintf(stderr, "zeromini plan: warning: %s\n",
                 ForTerminal(warning).c_str());
  }
  return presets;
}

absl::Status CheckFiles(const PlanArgs& args) {
  std::vector<FlagFile> inputs;
  for (const std::string& config : args.configs) {
    ZEROMINI_ASSIGN_OR_RETURN(const std::string path, ConfigPath(config));
    inputs.push_back({"--config", path});
  }
  return CheckApart(inputs, {{"--json", args.json}});
}

absl::Status RunPlan(const PlanArgs& args) {
  ZEROMINI_RETURN_IF_ERROR(CheckFiles(args));
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(args.json));
  PlanOptions options;
  options.stage = args.stage;
  options.bucket_bytes = args.bucket_bytes;
  if (args.value_blocks == "whole") options.value_blocks = ValueBlocks::kWhole;
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<ModelPreset> presets,
                            FindModels(args));
  Json list = Json::array();
  std::printf("%s", EmptyTable().Header().c_str());
  for (const ModelPreset& preset : presets) {
    for (const std::string& optimizer : args.optimizers) {
      ZEROMINI_ASSIGN_OR_RETURN(options.algorithm, ParseAlgorithm(optimizer));
      for (int ranks : args.ranks) {
        options.ranks = ranks;
        ZEROMINI_RETURN_IF_ERROR(PlanOne(args, preset, options, &list));
      }
    }
  }
  return WriteJson(args.json, list, 1);
}

}  // namespace

void AddPlan(CLI::App& app, int* exit_code) {
  CLI::App* plan = app.add_subcommand(
      "plan", "Plan a model's shards: padding, memory and bytes per step");
  auto args = std::make_shared<PlanArgs>();
  plan->add_option("--model", args->models, "Models, separated by commas")
      ->delimiter(',');
  plan->add_option("--config", args->configs,
                   "Hugging Face config.json files, separated by commas")
      ->delimiter(',');
  plan->add_option("--ranks", args->ranks, "Ranks, separated by commas")
      ->delimiter(',')
      ->check(CLI::Range(1, kMaxPlanRanks))
      ->required();
  plan->add_option("--stage", args->stage, "ZeRO stage")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  plan->add_option("--optimizer", args->optimizers,
                   "adam-mini, adamw, sgd, separated by commas")
      ->delimiter(',')
      ->capture_default_str();
  plan->add_option("--value-blocks", args->value_blocks,
                   "Blocks of the value projection")
      ->check(CLI::IsMember({"rows", "whole"}))
      ->capture_default_str();
  plan->add_option("--bucket-bytes", args->bucket_bytes,
                   "Soft limit of a bucket in bytes; 0: two layers")
      ->check(NotNegative())
      ->capture_default_str();
  plan->add_option("--scale", args->scale,
                   "1/k divides layers and vocabulary, never widths")
      ->capture_default_str();
  plan->add_flag("--buckets", args->buckets, "Print every bucket");
  plan->add_option("--json", args->json, "Write the plans to this file");
  plan->footer(kFormulas);
  plan->callback([args, exit_code] {
    *exit_code = ReportStatus("zeromini plan", RunPlan(*args));
  });
}

}  // namespace zeromini::tools
