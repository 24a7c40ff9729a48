// LastWords: when the launcher ends the job because another rank died, says
// which exchange this rank was in before it goes.

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

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_LAST_WORDS_H_
