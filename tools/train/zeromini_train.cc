// The zeromini-train program: pretrain and snr. `zeromini report` compares
// runs.

#include <iostream>
#include <sstream>

#include "tools/files/terminal.h"
#include "tools/flag_checks.h"
#include "tools/last_words.h"
#include "tools/train/train_verbs.h"

int main(int argc, char** argv) {
  zeromini::tools::OpenStandardStreams();
  CLI::App app("zeromini-train: trains a language model with zeromini");
  app.require_subcommand(1);
  int exit_code = 0;
  zeromini::tools::AddPretrain(app, &exit_code);
  zeromini::tools::AddSnr(app, &exit_code);
  zeromini::tools::RefuseEmptyValues(app);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream said;
    exit_code = app.exit(error, std::cout, said) == 0 ? 0 : 2;
    std::cerr << zeromini::tools::LinesForTerminal(said.str());
  }
  return zeromini::tools::TellLauncher(
      zeromini::tools::FinishOutput("zeromini-train", exit_code));
}
