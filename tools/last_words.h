// The end of a job that has lost a rank: what its launcher is told, and what
// this rank says when the launcher ends it.

#ifndef ZEROMINI_TOOLS_LAST_WORDS_H_
#define ZEROMINI_TOOLS_LAST_WORDS_H_

#include <functional>
#include <string>
#include <thread>

namespace zeromini::tools {

// Blocks SIGTERM in the calling thread and in all that it starts later, so that
// only LastWords receives it. To be called first in main(): before MPI_Init.
void HoldTermination();

// At most one at a time. On SIGTERM prints "`program`: ended by SIGTERM, " and
// what `words` says on stderr, and ends the process with 128 + SIGTERM.
class LastWords {
 public:
  LastWords(std::string program, std::function<std::string()> words);
  ~LastWords();
  LastWords(const LastWords&) = delete;
  LastWords& operator=(const LastWords&) = delete;

 private:
  std::thread watcher_;
};

// To be called once this process is one of an MPI job's ranks.
void JoinJob();

// To be called last in main(), once peers had no more to wait for. Returns
// `exit_code`. If it is not 0, JoinJob() was called and mpirun was told to let
// the survivors of a lost rank live, the nearest launcher that is our ancestor
// (mpirun, or Open MPI's daemon on this host) is told by SIGTERM to end the
// job, after the time that peers need to say what they have found: Open MPI 4.1
// would otherwise return 0, and over several hosts never.
int TellLauncher(int exit_code);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_LAST_WORDS_H_
