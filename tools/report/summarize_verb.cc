#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/files/apart.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/files/text_file.h"
#include "tools/report/run_record.h"
#include "tools/report/run_tables.h"
#include "tools/verbs.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

constexpr char kProgram[] = "zeromini summarize";

struct SummarizeFlags {
  std::vector<std::string> runs;
  bool markdown = false;
  bool best = false;
  std::string json;
};

// One line an optimizer, for scripts: its name, a tab, its best learning rate.
void PrintBest(const std::vector<RunGroup>& groups) {
  std::map<std::string, const RunGroup*> best;
  for (const RunGroup& group : groups) {
    if (!std::isfinite(group.validation_mean)) continue;
    const RunGroup*& found = best[group.optimizer];
    if (found == nullptr || group.validation_mean < found->validation_mean) {
      found = &group;
    }
  }
  for (const auto& [optimizer, group] : best) {
    std::printf("%s\t%g\n", ForTerminal(optimizer).c_str(),
                group->learning_rate);
  }
}

absl::Status Summarize(const SummarizeFlags& flags) {
  ZEROMINI_RETURN_IF_ERROR(CheckDifferent(flags.runs));
  ZEROMINI_RETURN_IF_ERROR(
      CheckApart(FilesOfRuns(flags.runs), {{"--json", flags.json}}));
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(flags.json));
  std::vector<RunRecord> runs;
  for (const std::string& folder : flags.runs) {
    ZEROMINI_ASSIGN_OR_RETURN(RunRecord run, ReadRun(folder));
    if (!run.finished) {
      std::fprintf(stderr, "%s: %s: not finished, left out\n", kProgram,
                   ForTerminal(folder).c_str());
    }
    runs.push_back(std::move(run));
  }
  const std::vector<RunGroup> groups = GroupRuns(runs);
  if (flags.best) {
    PrintBest(groups);
    return absl::OkStatus();
  }
  const Table table = GroupTable(groups);
  std::printf("%s", flags.markdown ? table.ToMarkdown().c_str()
                                   : table.ToText().c_str());
  return WriteJson(flags.json, ToJson(groups));
}

}  // namespace

void AddSummarize(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<SummarizeFlags>();
  CLI::App* verb = app.add_subcommand(
      "summarize", "Means and spreads over seeds, by optimizer and rate");
  verb->add_option("runs", flags->runs, "Folders that pretrain wrote")
      ->required();
  verb->add_flag("--markdown", flags->markdown, "Prints a Markdown table");
  verb->add_flag("--best", flags->best,
                 "Prints each optimizer and its best rate, for scripts");
  verb->add_option("--json", flags->json, "Writes the numbers here");
  verb->callback([flags, exit_code] {
    *exit_code = ReportStatus(kProgram, Summarize(*flags));
  });
}

}  // namespace zeromini::tools
