#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tools/train/html_report.h"
#include "tools/train/run_files.h"
#include "tools/train/run_record.h"
#include "tools/train/run_tables.h"
#include "tools/train/train_verbs.h"

namespace zeromini::tools {
namespace {

struct ReportFlags {
  std::vector<std::string> runs;
  std::string out = "report.html";
  std::string json;
};

int Fail(const absl::Status& status, int code) {
  std::fprintf(stderr, "zeromini-train: %s\n",
               std::string(status.message()).c_str());
  return code;
}

int RunReport(const ReportFlags& flags) {
  std::vector<RunRecord> runs;
  for (const std::string& folder : flags.runs) {
    auto run = ReadRun(folder);
    if (!run.ok()) return Fail(run.status(), 2);
    runs.push_back(*std::move(run));
  }
  const absl::Status written = WriteTextFile(flags.out, HtmlReport(runs));
  if (!written.ok()) return Fail(written, 1);
  if (!flags.json.empty()) {
    const absl::Status copied =
        WriteTextFile(flags.json, ToJson(runs).dump(2) + "\n");
    if (!copied.ok()) return Fail(copied, 1);
  }
  std::printf(
      "%s\nFormats and sharding:\n%s\nSent by one rank in a step:\n"
      "%s\nreport: %s\n",
      ResultTable(runs).ToText().c_str(), SetupTable(runs).ToText().c_str(),
      BytesTable(runs).ToText().c_str(), flags.out.c_str());
  return 0;
}

}  // namespace

void AddReport(CLI::App& app, int* exit_code) {
  auto flags = std::make_shared<ReportFlags>();
  CLI::App* verb = app.add_subcommand(
      "report", "Compares runs: a table, and one self-contained HTML page");
  verb->add_option("runs", flags->runs, "Folders that pretrain wrote")
      ->required();
  verb->add_option("--out", flags->out, "The page")->capture_default_str();
  verb->add_option("--json", flags->json, "Writes the table's numbers here");
  verb->callback([flags, exit_code] { *exit_code = RunReport(*flags); });
}

}  // namespace zeromini::tools
