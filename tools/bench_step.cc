// zeromini bench step: whole optimizer steps, ours and a replicated AdamW's in
// turn.

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/bench.h"
#include "tools/bench_group.h"
#include "tools/bench_report.h"
#include "tools/bench_stepper.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

struct Options {
  GroupFlags group;
  int64_t params = int64_t{32} << 20;
  std::vector<std::string> optimizers = {"adam-mini", "adamw"};
  StepSettings settings;
  double compute_milliseconds = 0;
  std::string compute = "wait";
  int repetitions = 7;
  std::string json;
};

// By repetition: first of this rank, then of the slowest.
struct Samples {
  std::vector<double> total;
  std::vector<double> exposed;
  std::vector<double> update;
};

class StepBench {
 public:
  StepBench(const Options& options, BenchRank& rank)
      : options_(options),
        rank_(rank),
        group_(rank.group),
        workload_(MakeWorkload(options.params)) {
    workload_.compute_seconds = options.compute_milliseconds / 1e3;
    workload_.spin = options.compute == "spin";
  }

  absl::Status Run() {
    ZEROMINI_RETURN_IF_ERROR(MakeSteppers());
    // The first round touches memory for the first time: it does not count.
    std::vector<Samples> warm_up(steppers_.size());
    ZEROMINI_RETURN_IF_ERROR(Round(0, &warm_up));
    std::vector<Samples> samples(steppers_.size());
    for (int r = 0; r < options_.repetitions; ++r) {
      ZEROMINI_RETURN_IF_ERROR(Round(r, &samples));
    }
    for (Samples& s : samples) {
      for (std::vector<double>* seconds : {&s.total, &s.exposed, &s.update}) {
        ZEROMINI_ASSIGN_OR_RETURN(*seconds, SlowestRank(*seconds, group_));
      }
    }
    for (auto& stepper : steppers_) ZEROMINI_RETURN_IF_ERROR(stepper->Close());
    return group_.rank() == 0 ? Report(samples) : absl::OkStatus();
  }

 private:
  // The baseline is the last.
  absl::Status MakeSteppers() {
    for (const std::string& name : options_.optimizers) {
      ZEROMINI_ASSIGN_OR_RETURN(const Algorithm algorithm,
                                ParseAlgorithm(name));
      ZEROMINI_ASSIGN_OR_RETURN(
          auto stepper,
          MakeShardedStepper(algorithm, options_.settings, workload_, rank_));
      steppers_.push_back(std::move(stepper));
    }
    ZEROMINI_ASSIGN_OR_RETURN(
        auto baseline,
        MakeReplicatedStepper(options_.settings, workload_, rank_));
    steppers_.push_back(std::move(baseline));
    return absl::OkStatus();
  }

  // A step of each; each round begins with another.
  absl::Status Round(int round, std::vector<Samples>* samples) {
    for (size_t i = 0; i < steppers_.size(); ++i) {
      const size_t turn = (i + round) % steppers_.size();
      steppers_[turn]->Prepare();
      ZEROMINI_RETURN_IF_ERROR(group_.Barrier());
      ZEROMINI_ASSIGN_OR_RETURN(const StepSeconds seconds,
                                steppers_[turn]->Step());
      Samples& mine = (*samples)[turn];
      mine.total.push_back(seconds.total);
      mine.exposed.push_back(seconds.exposed);
      mine.update.push_back(seconds.update);
    }
    return absl::OkStatus();
  }

  absl::Status Report(const std::vector<Samples>& samples) const {
    std::printf(
        "%.1f Mi parameters on %d ranks (%s) and %d hosts, %g ms of compute "
        "(%s); medians of %d interleaved steps of the slowest rank\n\n",
        static_cast<double>(workload_.elements) / (1 << 20), group_.size(),
        group_.backend(), rank_.hosts(), options_.compute_milliseconds,
        options_.compute.c_str(), options_.repetitions);
    std::printf("%-10s %-24s %9s %11s %9s %11s %6s %6s\n", "optimizer",
                "implementation", "ms", "exposed ms", "update ms", "/ baseline",
                "low", "high");
    nlohmann::json json = nlohmann::json::array();
    for (size_t i = 0; i < steppers_.size(); ++i) {
      json.push_back(Row(*steppers_[i], samples[i], samples.back()));
      PrintRow(json.back());
    }
    return WriteJson(options_.json, json);
  }

  nlohmann::json Row(const Stepper& stepper, const Samples& samples,
                     const Samples& baseline) const {
    nlohmann::json row = {{"optimizer", stepper.optimizer()},
                          {"implementation", stepper.implementation()},
                          {"parameters", workload_.elements},
                          {"ranks", group_.size()},
                          {"hosts", rank_.hosts()},
                          {"comm", group_.backend()},
                          {"stage", options_.settings.stage},
                          {"clip", options_.settings.clip},
                          {"compute", options_.compute},
                          {"compute_seconds", workload_.compute_seconds},
                          {"seconds", Median(samples.total)},
                          {"exposed_comm_seconds", Median(samples.exposed)},
                          {"update_seconds", Median(samples.update)}};
    if (&samples == &baseline) {
      row["stage"] = nullptr;
      return row;
    }
    const Ratio ratio = RatioOfPairs(samples.total, baseline.total);
    row["ratio_to_baseline"] = ratio.median;
    row["ratio_low"] = ratio.low;
    row["ratio_high"] = ratio.high;
    return row;
  }

  static void PrintRow(const nlohmann::json& row) {
    const auto number = [&row](const char* key) {
      return row[key].get<double>();
    };
    std::printf("%-10s %-24s %9.2f %11.2f %9.2f",
                row["optimizer"].get<std::string>().c_str(),
                row["implementation"].get<std::string>().c_str(),
                number("seconds") * 1e3, number("exposed_comm_seconds") * 1e3,
                number("update_seconds") * 1e3);
    if (row.contains("ratio_to_baseline")) {
      std::printf(" %11.3f %6.2f %6.2f", number("ratio_to_baseline"),
                  number("ratio_low"), number("ratio_high"));
    }
    std::printf("\n");
  }

  const Options& options_;
  BenchRank& rank_;
  Communicator& group_;
  Workload workload_;
  std::vector<std::unique_ptr<Stepper>> steppers_;
};

void AddFlags(CLI::App* verb, Options* options) {
  AddGroupFlags(verb, &options->group);
  verb->add_option(
          "--params", options->params,
          "Parameters, about; 32Mi or 33554432. A rank needs 24 to 32\n"
          "bytes for each, with both optimizers")
      ->transform(CLI::AsSizeValue(true))
      ->check(CLI::Range(kFewestParameters, int64_t{1} << 30))
      ->default_str("32Mi");
  verb->add_option("--optimizer", options->optimizers,
                   "adam-mini, adamw or both")
      ->delimiter(',')
      ->check(CLI::IsMember({"adam-mini", "adamw"}))
      ->capture_default_str();
  verb->add_option("--stage", options->settings.stage, "ZeRO stage")
      ->check(CLI::Range(1, 2))
      ->capture_default_str();
  verb->add_option("--compute-ms", options->compute_milliseconds,
                   "Forward and backward, spread over the buckets")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  verb->add_option("--compute", options->compute,
                   "wait: as for a device; spin: on this core")
      ->check(CLI::IsMember({"wait", "spin"}))
      ->capture_default_str();
  verb->add_option("--clip", options->settings.clip,
                   "Global gradient norm; 0: off, and no look for gradients\n"
                   "that are not finite")
      ->check(CLI::Range(0.0, 1e9))
      ->capture_default_str();
  verb->add_option("--repetitions", options->repetitions,
                   "Steps of each; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_option("--json", options->json, "Also write the results here");
}

}  // namespace

void AddBenchStep(CLI::App& bench, int* exit_code) {
  CLI::App* verb = bench.add_subcommand(
      "step",
      "Whole optimizer steps, and beside them an all-reduce of the whole\n"
      "gradient with AdamW of everything on every rank.\n"
      "Under mpirun: mpirun -n 4 zeromini bench step");
  auto options = std::make_shared<Options>();
  AddFlags(verb, options.get());
  verb->callback([options, exit_code] {
    *exit_code = RunOnGroup("step", options->group, [&](BenchRank& rank) {
      return StepBench(*options, rank).Run();
    });
  });
}

}  // namespace zeromini::tools
