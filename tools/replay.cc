// zeromini replay: steps through recorded gradients on N ranks and writes the
// weights and state, to be compared with those of another implementation.

#include <cstdio>
#include <map>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tools/agree_on.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/flag_checks.h"
#include "tools/last_words.h"
#include "tools/layout_flags.h"
#include "tools/rank_threads.h"
#include "tools/replay_rank.h"
#include "tools/timeout_flag.h"
#include "tools/verbs.h"
#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

constexpr char kProgram[] = "zeromini replay";

struct Outcome {
  absl::StatusOr<ReplaySummary> summary = absl::UnknownError("did not run");
  int ranks = 0;
  int steps = 0;
  bool reports = true;  // False on all but one process.
};

GroupOptions GroupOptionsFor(const ReplayOptions& options) {
  GroupOptions result;
  result.timeout = absl::Seconds(options.timeout_seconds);
  return result;
}

void ReplayOnThreads(const ReplayOptions& options, Outcome* outcome) {
  outcome->ranks = options.ranks > 0 ? options.ranks : 1;
  const auto input = ReplayInput::Open(options.directory);
  if (!input.ok()) {
    outcome->summary = input.status();
    return;
  }
  outcome->steps = input->steps();
  auto group = ThreadGroup(outcome->ranks, GroupOptionsFor(options));
  if (!group.ok()) {
    outcome->summary = group.status();
    return;
  }
  std::vector<absl::StatusOr<ReplaySummary>> results(
      outcome->ranks, absl::UnknownError("did not run"));
  const absl::Status ran = OnRankThreads(*group, [&](int r) {
    Communicator& rank = *(*group)[r];
    results[r] = ReplayRank(*input, options, rank);
    if (!results[r].ok()) rank.Abort(results[r].status());
  });
  if (!ran.ok()) {
    outcome->summary = ran;
    return;
  }
  size_t first = 0;
  while (first < results.size() && results[first].ok()) ++first;
  outcome->summary = std::move(results[first % results.size()]);
}

absl::StatusOr<ReplaySummary> ReplayOverMpi(const ReplayOptions& options,
                                            Communicator& world,
                                            Outcome* outcome) {
  outcome->ranks = world.size();
  if (options.ranks > 0 && options.ranks != world.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--ranks ", options.ranks, ", but mpirun started ",
                     world.size(), "; leave --ranks out or make them equal"));
  }
  const auto input = ReplayInput::Open(options.directory);
  ZEROMINI_RETURN_IF_ERROR(AgreeOn(input.status(), world));
  outcome->steps = input->steps();
  return ReplayRank(*input, options, world);
}

nlohmann::json SummaryJson(const ReplayOptions& options,
                           const Outcome& outcome) {
  const ReplaySummary& summary = *outcome.summary;
  nlohmann::json bytes;
  for (int purpose = 0; purpose < kPurposes; ++purpose) {
    bytes[PurposeName(static_cast<Purpose>(purpose))] =
        summary.traffic[purpose].bytes;
  }
  return {{"directory", options.directory},
          {"out", options.out},
          {"comm", options.comm},
          {"ranks", outcome.ranks},
          {"stage", options.stage},
          {"shard_group", options.shard_ranks},
          {"steps", outcome.steps},
          {"grad_norms", summary.grad_norms},
          {"bytes_sent_by_rank_0", bytes},
          {"state_bytes_of_rank_0", summary.memory.state()}};
}

// Says how it went, and returns the exit code.
int Report(const ReplayOptions& options, const Outcome& outcome) {
  const absl::Status status = outcome.summary.status();
  if (!outcome.reports) return ExitCodeOf(status);
  if (!status.ok()) return ReportStatus(kProgram, status);
  std::printf("replayed %d steps on %d ranks (%s), stage %d: %s\n",
              outcome.steps, outcome.ranks, options.comm.c_str(), options.stage,
              ForTerminal(options.out).c_str());
  return ReportStatus(kProgram,
                      WriteJson(options.json, SummaryJson(options, outcome)));
}

// Reports while MPI is up: the first rank that ends with an error makes mpirun
// end all others, and finalising MPI waits for the one that reports.
int ReplayOnMpi(const ReplayOptions& options) {
  Outcome outcome;
  auto session = MpiSession::Start();
  if (!session.ok()) {
    outcome.summary = session.status();
    return Report(options, outcome);
  }
  JoinJob();
  outcome.reports = (*session)->rank() == 0;
  auto world = (*session)->World(GroupOptionsFor(options));
  if (!world.ok()) {
    outcome.summary = world.status();
    return Report(options, outcome);
  }
  outcome.summary = ReplayOverMpi(options, **world, &outcome);
  const absl::Status closed = (*world)->Close();
  if (outcome.summary.ok() && !closed.ok()) outcome.summary = closed;
  return Report(options, outcome);
}

int Replay(const ReplayOptions& options) {
  if (options.comm == "mpi") return ReplayOnMpi(options);
  Outcome outcome;
  ReplayOnThreads(options, &outcome);
  return Report(options, outcome);
}

void AddFlags(CLI::App* verb, ReplayOptions& options) {
  verb->add_option("directory", options.directory,
                   "meta.json, params_00 and grads_TT.safetensors")
      ->required();
  verb->add_option("--ranks", options.ranks,
                   "number of ranks (with mpi: must be the world size)")
      ->check(CLI::Range(1, 4096));
  verb->add_option("--comm", options.comm, "threads of this process, or mpi")
      ->check(CLI::IsMember({"threads", "mpi"}))
      ->capture_default_str();
  verb->add_option("--stage", options.stage, "ZeRO stage")
      ->check(CLI::Range(1, 3))
      ->capture_default_str();
  verb->add_option("--shard-group", options.shard_ranks,
                   "ranks that share a copy of the state; it divides the "
                   "ranks (default: all)")
      ->check(CLI::Range(1, 4096));
  verb->add_option("--out", options.out,
                   "folder for params_KK and state_KK.safetensors")
      ->required();
  verb->add_option_function<std::string>(
          "--grad-split",
          [&options](const std::string& how) {
            options.split_gradients = how == "sum";
          },
          "sum: deal the bits of each gradient to the ranks and sum; "
          "default: all ranks get all of it and the mean is taken")
      ->check(CLI::IsMember({"sum"}));
  verb->add_option("--naming", options.naming,
                   "whose rules find a parameter's class by its name")
      ->transform(CLI::CheckedTransformer(std::map<std::string, Naming>{
          {"official", Naming::kOfficial}, {"zeromini", Naming::kZeromini}}))
      ->default_str("official");
  verb->add_option_function<std::string>(
          "--second-moment",
          [&options](const std::string& word) {
            options.second_moment =
                word == SecondMomentName(SecondMoment::kFactored)
                    ? SecondMoment::kFactored
                    : SecondMoment::kOfficial;
          },
          "of adam-mini's parameters: official, the paper's blocks, or "
          "factored, which is not Adam-mini (default: as meta.json says)")
      ->check(CLI::IsMember({SecondMomentName(SecondMoment::kOfficial),
                             SecondMomentName(SecondMoment::kFactored)}));
  verb->add_option("--memory", options.memory, "who owns the weights")
      ->transform(CLI::CheckedTransformer(std::map<std::string, MemoryForm>{
          {"external", MemoryForm::kExternal}, {"flat", MemoryForm::kFlat}}))
      ->default_str("external");
  verb->add_option("--clip", options.clip, "global gradient norm; 0: off")
      ->check(NotNegative())
      ->capture_default_str();
  AddLayoutFlags(verb, &options.layout);
  AddTimeoutFlag(verb, &options.timeout_seconds);
  verb->add_flag("--overwrite", options.overwrite,
                 "replaces what an earlier replay wrote to --out");
  verb->add_option("--json", options.json, "writes a summary to this file");
}

}  // namespace

void AddReplay(CLI::App& app, int* exit_code) {
  CLI::App* verb = app.add_subcommand(
      "replay", "step through recorded gradients and write the weights");
  auto options = std::make_shared<ReplayOptions>();
  AddFlags(verb, *options);
  verb->callback([options, exit_code] { *exit_code = Replay(*options); });
}

}  // namespace zeromini::tools
