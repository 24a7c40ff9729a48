#include "tools/last_words.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <system_error>
#include <utility>

namespace zeromini::tools {
namespace {

// Ends the watcher; the kernel never sends it by itself.
constexpr int kEnd = SIGUSR2;

sigset_t Watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, kEnd);
  return set;
}

}  // namespace

void HoldTermination() {
  const sigset_t set = Watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

LastWords::LastWords(std::string program, std::function<std::string()> words) {
  const auto watch = [program = std::move(program), words = std::move(words)] {
    const sigset_t set = Watched();
    int signal = 0;
    if (sigwait(&set, &signal) != 0 || signal != SIGTERM) return;
    const std::string line = program + ": ended by SIGTERM, " + words() + "\n";
    // One write, so that the lines of several ranks do not mix.
    if (write(STDERR_FILENO, line.data(), line.size()) < 0) {
    }
    _exit(128 + SIGTERM);
  };
  try {
    watcher_ = std::thread(watch);
  } catch (const std::system_error&) {
    // Then the signal ends the process without a word.
    const sigset_t set = Watched();
    pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  }
}

LastWords::~LastWords() {
  if (!watcher_.joinable()) return;
  pthread_kill(watcher_.native_handle(), kEnd);
  watcher_.join();
}

}  // namespace zeromini::tools
