#include "tools/last_words.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

namespace zeromini::tools {
namespace {

// Ends the watcher; the kernel never sends it by itself.
constexpr int kEnd = SIGUSR2;

std::atomic<bool> joined = false;

sigset_t Watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, kEnd);
  return set;
}

// What Open MPI hands down of mpirun's flags: --enable-recovery, and the
// parameter by which a failed rank does not end the job.
bool SurvivorsLive() {
  const auto is = [](const char* name, const char* yes, const char* one) {
    const char* value = std::getenv(name);
    return value != nullptr &&
           (std::strcmp(value, yes) == 0 || std::strcmp(value, one) == 0);
  };
  return is("OMPI_MCA_orte_enable_recovery", "true", "1") ||
         is("OMPI_MCA_orte_abort_on_non_zero_status", "false", "0");
}

// "Name: mpirun" and "PPid: 17" of /proc; empty where there is none.
std::string ReadStatus(pid_t process, const std::string& key) {
  std::ifstream file("/proc/" + std::to_string(process) + "/status");
  for (std::string word, value; file >> word;) {
    std::getline(file >> std::ws, value);
    if (word == key + ":") return value;
  }
  return "";
}

// 0 if there is none.
pid_t Launcher() {
  for (pid_t process = getppid(); process > 1;) {
    const std::string name = ReadStatus(process, "Name");
    for (const char* known : {"mpirun", "mpiexec", "orterun", "orted"}) {
      if (name == known) return process;
    }
    process = std::atoi(ReadStatus(process, "PPid").c_str());
  }
  return 0;
}

}  // namespace

void JoinJob() { joined = true; }

int TellLauncher(int exit_code) {
  constexpr unsigned kPeersTurn = 2;  // Seconds.
  // mpirun may have started a script that runs us, and go on after us.
  if (exit_code == 0 || !joined || !SurvivorsLive()) return exit_code;
  const pid_t launcher = Launcher();
  if (launcher == 0) return exit_code;
  std::fflush(nullptr);
  sleep(kPeersTurn);
  kill(launcher, SIGTERM);
  return exit_code;
}

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
