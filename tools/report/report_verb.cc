#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "tools/files/apart.h"
#include "tools/files/json_file.h"
#include "tools/files/terminal.h"
#include "tools/files/text_file.h"
#include "tools/report/html_report.h"
#include "tools/report/run_record.h"
#include "tools/report/run_tables.h"
#include "tools/verbs.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

struct ReportFlags {
  std::vector<std::string> runs;
  std::string out = "report.html";
  std::string json;
};

constexpr char kProgram[] = "zeromini report";

absl::Status Report(const ReportFlags& flags) {
  ZEROMINI_RETURN_IF_ERROR(CheckDifferent(flags.runs));
  ZEROMINI_RETURN_IF_ERROR(CheckApart(
      FilesOfRuns(flags.runs), {{"--out", flags.out}, {"--json", flags.json}}));
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(flags.out));
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(flags.json));
  std::vector<RunRecord> runs;
  for (const std::string& folder : flags.runs) {
    ZEROMINI_ASSIGN_OR_RETURN(RunRecord run, ReadRun(folder));
    runs.push_back(std::move(run));
  }
  ZEROMINI_RETURN_IF_ERROR(WriteTextFile(flags.out, HtmlReport(runs)));
  ZEROMINI_RETURN_IF_ERROR(WriteJson(flags.json, ToJson(runs)));
  std::printf(
      "%s\nFormats and sharding:\n%s\nSent by one rank in a step:\n"
      "%s\nreport: %s\n",
      ResultTable(runs).ToText().c_str(), SetupTable(runs).ToText().c_str(),
      BytesTable(runs).ToText().c_str(), ForTerminal(flags.out).c_str());
  return absl::OkStatus();
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
  verb->callback([flags, exit_code] {
    *exit_code = ReportStatus(kProgram, Report(*flags));
  });
}

}  // namespace zeromini::tools
