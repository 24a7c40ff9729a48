// The verbs of the zeromini program, one file each.

#ifndef ZEROMINI_TOOLS_VERBS_H_
#define ZEROMINI_TOOLS_VERBS_H_

#include "CLI/CLI.hpp"

namespace zeromini::tools {

// Each adds its subcommand to `app`; when the user chose it, its callback runs
// it and sets *exit_code: 0 success, 1 failure, 2 bad input.
void AddPlan(CLI::App& app, int* exit_code);
void AddReplay(CLI::App& app, int* exit_code);
void AddBench(CLI::App& app, int* exit_code);
void AddReport(CLI::App& app, int* exit_code);
void AddSummarize(CLI::App& app, int* exit_code);
void AddInfo(CLI::App& app, int* exit_code);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_VERBS_H_
