#include <cstdio>
#include <memory>

#include "tools/flag_checks.h"
#include "tools/sharing/form_choice.h"
#include "tools/train/snr_run.h"
#include "tools/train/train_flags.h"
#include "tools/train/train_verbs.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

struct SnrFlags {
  TrainFlags train;
  SnrOptions options;
  bool suggest = false;
};

void AddSnrFlags(CLI::App& app, SnrFlags& flags) {
  SnrOptions& options = flags.options;
  app.add_option("--every", options.every,
                 "Steps between measurements (default: steps / 20); the last "
                 "step is always measured")
      ->check(Count());
  app.add_flag("--suggest", flags.suggest,
               "Prints the form that each class of tensors supports, and its "
               "bytes of state");
  app.add_option("--threshold", options.threshold,
                 "SNR from which on an average stands for its members")
      ->check(NotNegative())
      ->capture_default_str();
  app.add_option("--json", options.json, "Writes all numbers here");
  app.add_option("--html", options.html, "Writes a page here");
  app.add_flag("--overwrite", options.overwrite,
               "Replaces files that --json and --html name");
}

void Print(const SharingRecord& record, const SnrFlags& flags) {
  std::printf("SNR of AdamW's second moments, means from step %lld on:\n%s",
              static_cast<long long>(record.steps[record.SecondHalf()]),
              SharingTable(record).ToText().c_str());
  if (!flags.suggest) return;
  const Suggestion suggestion = Suggest(record, flags.options.threshold);
  std::printf("\nWhat the run supports:\n%s%s\n",
              SuggestionTable(suggestion).ToText().c_str(),
              SuggestionNote(suggestion).c_str());
}

absl::Status Snr(const SnrFlags& flags, const SnrOptions& options,
                 Communicator& group) {
  ZEROMINI_ASSIGN_OR_RETURN(const SharingRecord record,
                            MeasureSharing(options, group));
  if (group.rank() == 0) Print(record, flags);
  return absl::OkStatus();
}

absl::StatusOr<PretrainOptions> Complete(const SnrFlags& flags,
                                         SnrOptions& options) {
  ZEROMINI_ASSIGN_OR_RETURN(options.run, OptionsFrom(flags.train));
  ZEROMINI_RETURN_IF_ERROR(Complete(options));
  return options.run;
}

int RunSnr(const SnrFlags& flags) {
  SnrOptions options = flags.options;
  return RunInGroup(Complete(flags, options), [&](Communicator& group) {
    return Snr(flags, options, group);
  });
}

}  // namespace

void AddSnr(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<SnrFlags>();
  flags->train.options.schedule.steps = 300;
  CLI::App* verb = app.add_subcommand(
      "snr",
      "Trains with AdamW and measures which averages can stand for its second "
      "moments");
  AddModelFlags(*verb, flags->train);
  AddDataFlags(*verb, flags->train.options);
  AddScheduleFlags(*verb, flags->train);
  AddHyperFlags(*verb, flags->train);
  AddSnrFlags(*verb, *flags);
  AddLaunchFlags(*verb, flags->train.options);
  verb->callback([flags, exit_code] { *exit_code = RunSnr(*flags); });
}

}  // namespace zeromini::tools
