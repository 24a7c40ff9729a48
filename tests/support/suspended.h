// Suspends this process, as a batch scheduler does.

#ifndef ZEROMINI_TESTS_SUPPORT_SUSPENDED_H_
#define ZEROMINI_TESTS_SUPPORT_SUSPENDED_H_

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <thread>

namespace zeromini {

// All threads; a child lets them go on. First leaves other threads time to
// begin a wait, and last to find out how late it is.
inline void SuspendThisProcessFor(std::chrono::milliseconds time) {
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const pid_t self = getpid();
  const pid_t child = fork();
  if (child == 0) {
    usleep(static_cast<useconds_t>(time.count()) * 1000);
    kill(self, SIGCONT);
    _exit(0);
  }
  kill(self, SIGSTOP);
  waitpid(child, nullptr, 0);
  std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_SUSPENDED_H_
