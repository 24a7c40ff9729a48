// What the programs say: on a terminal, and by their exit code.

#ifndef ZEROMINI_TOOLS_FILES_TERMINAL_H_
#define ZEROMINI_TOOLS_FILES_TERMINAL_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace zeromini::tools {

// One line that moves no cursor: line ends and tabs become spaces, other
// control characters, what reorders text and bytes that are not UTF-8 become
// \x1b and the like. Names of files and strings out of files go through it.
std::string ForTerminal(absl::string_view text);

// The same of each line of `text`, with the line ends.
std::string LinesForTerminal(absl::string_view text);

// docs/exit-codes.md: 0; 2 for what the caller can mend in what was given; 1
// for what happened to the run.
int ExitCodeOf(const absl::Status& status);

// One line on stderr, "`program`: message", and returns the exit code; nothing
// and 0 for OK.
int ReportStatus(const std::string& program, const absl::Status& status);

// To be called first in main(). Standard streams that were closed are opened,
// to nothing, so that no file the program opens takes their place: what is
// printed there is lost, as FinishOutput() will say.
void OpenStandardStreams();

// To be called last in main(). `exit_code`, or 1 with a line on stderr if it is
// 0 and not all that was printed reached stdout.
int FinishOutput(const std::string& program, int exit_code);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_FILES_TERMINAL_H_
