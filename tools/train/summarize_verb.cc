#include <cmath>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tools/train/run_files.h"
#include "tools/train/run_record.h"
#include "tools/train/run_tables.h"
#include "tools/train/train_verbs.h"

namespace zeromini::tools {
namespace {

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
    std::printf("%s\t%g\n", optimizer.c_str(), group->learning_rate);
  }
}

int RunSummarize(const SummarizeFlags& flags) {
  std::vector<RunRecord> runs;
  for (const std::string& folder : flags.runs) {
    auto run = ReadRun(folder);
    if (!run.ok()) {
      std::fprintf(stderr, "zeromini-train: %s\n",
                   std::string(run.status().message()).c_str());
      return 2;
    }
    if (!run->finished) {
      std::fprintf(stderr, "zeromini-train: %s: not finished, left out\n",
                   folder.c_str());
    }
    runs.push_back(*std::move(run));
  }
  const std::vector<RunGroup> groups = GroupRuns(runs);
  if (flags.best) {
    PrintBest(groups);
    return 0;
  }
  const Table table = GroupTable(groups);
  std::printf("%s", flags.markdown ? table.ToMarkdown().c_str()
                                   : table.ToText().c_str());
  if (flags.json.empty()) return 0;
  const absl::Status written =
      WriteTextFile(flags.json, ToJson(groups).dump(2) + "\n");
  if (written.ok()) return 0;
  std::fprintf(stderr, "zeromini-train: %s\n",
               std::string(written.message()).c_str());
  return 1;
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
  verb->callback([flags, exit_code] { *exit_code = RunSummarize(*flags); });
}

}  // namespace zeromini::tools
