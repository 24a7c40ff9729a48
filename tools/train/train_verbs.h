// The verbs of zeromini-train.

#ifndef ZEROMINI_TOOLS_TRAIN_TRAIN_VERBS_H_
#define ZEROMINI_TOOLS_TRAIN_TRAIN_VERBS_H_

#include "CLI/CLI.hpp"

namespace zeromini::tools {

// Each adds its subcommand to `app`; when the user chose it, its callback runs
// it and sets *exit_code: 0 success, 1 failure, 2 bad input.
void AddPretrain(CLI::App& app, int* exit_code);
void AddSnr(CLI::App& app, int* exit_code);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_TRAIN_VERBS_H_
