// zeromini bench step: whole optimizer steps, ours and a replicated AdamW's in
// turn.

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"
#include "tools/agree_on.h"
#include "tools/bench.h"
#include "tools/bench_group.h"
#include "tools/bench_report.h"
#include "tools/bench_stepper.h"
#include "tools/files/json_file.h"
#include "tools/report/table.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

struct Options {
  GroupFlags group;
  int64_t params = int64_t{32} << 20;
  int layers = 8;
  std::vector<std::string> optimizers = {"adam-mini", "adamw"};
  StepSettings settings;
  double compute_milliseconds = 0;
  double forward_share = 1.0 / 3;
  std::string compute = "wait";
  int repetitions = 7;
  bool no_baseline = false;
  std::string json;
};

// Steps in a row of one contender, after one that is not timed: in each, the
// weights of the step before travel under forward, as in training.
constexpr int kInARow = 3;

// By repetition, of one step: first of this rank, then of the slowest.
struct Samples {
  std::vector<double> total;
  std::vector<double> exposed;
  std::vector<double> update;
  int64_t steps = 0;
  int64_t sent_between_hosts = 0;  // By this rank, in all of them.
};

Table EmptyTable() {
  return {{{"optimizer", Align::kLeft},
           {"implementation", Align::kLeft, 24},
           {"ms", Align::kRight, 8},
           {"exposed ms", Align::kRight, 10},
           {"update ms", Align::kRight, 9},
           {"inter-host", Align::kRight, 11},
           {"/ bound", Align::kRight, 7},
           {"/ baseline", Align::kRight, 10},
           {"low", Align::kRight, 5},
           {"high", Align::kRight, 5}},
          {}};
}

class StepBench {
 public:
  StepBench(const Options& options, BenchRank& rank)
      : options_(options),
        rank_(rank),
        group_(rank.group),
        workload_(MakeWorkload(options.params, options.layers)) {
    const double compute = options.compute_milliseconds / 1e3;
    workload_.forward_seconds = compute * options.forward_share;
    workload_.backward_seconds = compute * (1 - options.forward_share);
    workload_.spin = options.compute == "spin";
  }

  absl::Status Run() {
    ZEROMINI_RETURN_IF_ERROR(AgreeOn(
        group_.rank() == 0 ? CheckWritable(options_.json) : absl::OkStatus(),
        group_));
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
      if (rank_.mpi == nullptr) continue;
      ZEROMINI_ASSIGN_OR_RETURN(
          s.sent_between_hosts,
          rank_.mpi->LargestHostSum(s.sent_between_hosts));
    }
    for (auto& stepper : steppers_) ZEROMINI_RETURN_IF_ERROR(stepper->Close());
    return group_.rank() == 0 ? Report(samples) : absl::OkStatus();
  }

 private:
  // The baseline, if there is one, is the last.
  absl::Status MakeSteppers() {
    for (const std::string& name : options_.optimizers) {
      ZEROMINI_ASSIGN_OR_RETURN(const Algorithm algorithm,
                                ParseAlgorithm(name));
      ZEROMINI_ASSIGN_OR_RETURN(
          auto stepper,
          MakeShardedStepper(algorithm, options_.settings, workload_, rank_));
      steppers_.push_back(std::move(stepper));
    }
    if (options_.no_baseline) return absl::OkStatus();
    ZEROMINI_ASSIGN_OR_RETURN(
        auto baseline,
        MakeReplicatedStepper(options_.settings, workload_, rank_));
    steppers_.push_back(std::move(baseline));
    return absl::OkStatus();
  }

  // Some steps of each; each round begins with another.
  absl::Status Round(int round, std::vector<Samples>* samples) {
    for (size_t i = 0; i < steppers_.size(); ++i) {
      const size_t turn = (i + round) % steppers_.size();
      ZEROMINI_RETURN_IF_ERROR(
          StepsInARow(*steppers_[turn], &(*samples)[turn]));
    }
    return absl::OkStatus();
  }

  absl::Status StepsInARow(Stepper& stepper, Samples* samples) {
    stepper.Prepare();
    ZEROMINI_RETURN_IF_ERROR(group_.Barrier());
    const int64_t sent = stepper.SentBetweenHosts();
    ZEROMINI_RETURN_IF_ERROR(stepper.Step().status());
    StepSeconds sum;
    for (int i = 0; i < kInARow; ++i) {
      ZEROMINI_ASSIGN_OR_RETURN(const StepSeconds seconds, stepper.Step());
      sum.total += seconds.total;
      sum.exposed += seconds.exposed;
      sum.update += seconds.update;
    }
    ZEROMINI_RETURN_IF_ERROR(stepper.Finish());
    samples->total.push_back(sum.total / kInARow);
    samples->exposed.push_back(sum.exposed / kInARow);
    samples->update.push_back(sum.update / kInARow);
    samples->steps += 1 + kInARow;
    samples->sent_between_hosts += stepper.SentBetweenHosts() - sent;
    return absl::OkStatus();
  }

  absl::Status Report(const std::vector<Samples>& samples) const {
    std::printf(
        "%.1f Mi parameters in %d layers on %d ranks (%s) and %d hosts, %g ms "
        "of compute "
        "(%s), a share of %.2f in forward; a step of the slowest rank, medians "
        "of %d interleaved runs of %d\n\n",
        static_cast<double>(workload_.elements) / (1 << 20), options_.layers,
        group_.size(), group_.backend(), rank_.hosts(),
        options_.compute_milliseconds, options_.compute.c_str(),
        options_.forward_share, options_.repetitions, kInARow);
    const Table table = EmptyTable();
    std::printf("%s", table.Header().c_str());
    nlohmann::json json = nlohmann::json::array();
    for (size_t i = 0; i < steppers_.size(); ++i) {
      nlohmann::json row = Row(*steppers_[i], samples[i]);
      if (!options_.no_baseline && i + 1 < steppers_.size()) {
        AddRatio(samples[i], samples.back(), &row);
      }
      std::printf("%s", table.Line(CellsOf(row)).c_str());
      json.push_back(std::move(row));
    }
    return WriteJson(options_.json, json);
  }

  // What must leave a host in a step: the other hosts' part of each host's sum
  // of gradients, and its own part of the weights to each of the others.
  int64_t BoundBetweenHosts() const {
    const int64_t hosts = rank_.hosts();
    return 2 * (hosts - 1) * workload_.elements * int64_t{sizeof(float)} /
           hosts;
  }

  nlohmann::json Row(const Stepper& stepper, const Samples& samples) const {
    nlohmann::json row = {{"optimizer", stepper.optimizer()},
                          {"implementation", stepper.implementation()},
                          {"parameters", workload_.elements},
                          {"layers", options_.layers},
                          {"ranks", group_.size()},
                          {"hosts", rank_.hosts()},
                          {"comm", group_.backend()},
                          {"stage", options_.settings.stage},
                          {"clip", options_.settings.clip},
                          {"compute", options_.compute},
                          {"compute_seconds", workload_.forward_seconds +
                                                  workload_.backward_seconds},
                          {"forward_seconds", workload_.forward_seconds},
                          {"seconds", Median(samples.total)},
                          {"exposed_comm_seconds", Median(samples.exposed)},
                          {"update_seconds", Median(samples.update)},
                          {"inter_host_bytes", nullptr},
                          {"inter_host_bound", nullptr},
                          {"inter_host_ratio", nullptr}};
    if (stepper.SentBetweenHosts() < 0) {
      row["stage"] = nullptr;
      return row;
    }
    const int64_t sent = samples.sent_between_hosts / samples.steps;
    const int64_t bound = BoundBetweenHosts();
    row["inter_host_bytes"] = sent;
    row["inter_host_bound"] = bound;
    if (bound > 0) {
      row["inter_host_ratio"] =
          static_cast<double>(sent) / static_cast<double>(bound);
    }
    return row;
  }

  static void AddRatio(const Samples& samples, const Samples& baseline,
                       nlohmann::json* row) {
    const Ratio ratio = RatioOfPairs(samples.total, baseline.total);
    (*row)["ratio_to_baseline"] = ratio.median;
    (*row)["ratio_low"] = ratio.low;
    (*row)["ratio_high"] = ratio.high;
  }

  static std::vector<std::string> CellsOf(const nlohmann::json& row) {
    const auto milliseconds = [&row](const char* key) {
      return absl::StrFormat("%.2f", row[key].get<double>() * 1e3);
    };
    const auto or_dash = [&row](const char* key, int digits) -> std::string {
      if (!row.contains(key) || row[key].is_null()) return "-";
      return absl::StrFormat("%.*f", digits, row[key].get<double>());
    };
    return {row["optimizer"].get<std::string>(),
            row["implementation"].get<std::string>(),
            milliseconds("seconds"),
            milliseconds("exposed_comm_seconds"),
            milliseconds("update_seconds"),
            or_dash("inter_host_bytes", 0),
            or_dash("inter_host_ratio", 4),
            or_dash("ratio_to_baseline", 3),
            or_dash("ratio_low", 2),
            or_dash("ratio_high", 2)};
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
      ->check(CLI::Range(kFewestInALayer, int64_t{1} << 30))
      ->default_str("32Mi");
  verb->add_option("--layers", options->layers,
                   "Layers they make; each travels in a bucket of its own")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
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
  verb->add_option("--forward-share", options->forward_share,
                   "Forward's share of it; backward is usually twice as long")
      ->check(CLI::Range(0.0, 1.0))
      ->default_str("1/3");
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
                   "Runs of each, of 3 steps and one before; the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  verb->add_flag("--no-baseline", options->no_baseline,
                 "Without the all-reduce beside it: to count bytes");
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
    if (options->params / options->layers < kFewestInALayer) {
      throw CLI::ValidationError(
          "--params",
          absl::StrCat(options->params, " are too few for ", options->layers,
                       " layers: each needs ", kFewestInALayer));
    }
    *exit_code = RunOnGroup("step", options->group, [&](BenchRank& rank) {
      return StepBench(*options, rank).Run();
    });
  });
}

}  // namespace zeromini::tools
