// The zeromini program: plan, replay, bench, report, summarize, info.

#include <iostream>
#include <sstream>

#include "tools/files/terminal.h"
#include "tools/flag_checks.h"
#include "tools/last_words.h"
#include "tools/verbs.h"

int main(int argc, char** argv) {
  zeromini::tools::OpenStandardStreams();
  CLI::App app("zeromini: a ZeRO-sharded distributed optimizer runtime");
  app.require_subcommand(1);
  app.fallthrough(false);
  int exit_code = 0;
  zeromini::tools::AddPlan(app, &exit_code);
  zeromini::tools::AddReplay(app, &exit_code);
  zeromini::tools::AddBench(app, &exit_code);
  zeromini::tools::AddReport(app, &exit_code);
  zeromini::tools::AddSummarize(app, &exit_code);
  zeromini::tools::AddInfo(app, &exit_code);
  zeromini::tools::RefuseEmptyValues(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream said;
    exit_code = app.exit(error, std::cout, said) == 0 ? 0 : 2;
    std::cerr << zeromini::tools::LinesForTerminal(said.str());
  }
  return zeromini::tools::TellLauncher(
      zeromini::tools::FinishOutput("zeromini", exit_code));
}
