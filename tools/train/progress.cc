#include "tools/train/progress.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace zeromini::tools {
namespace {

// Open MPI gives every rank a pseudo-terminal, wherever mpirun itself prints;
// so what counts under a launcher is the launcher's own standard output.
bool LauncherHasTerminal() {
  struct stat file = {};
  const std::string path = absl::StrCat("/proc/", getppid(), "/fd/1");
  if (stat(path.c_str(), &file) != 0 || !S_ISCHR(file.st_mode)) return false;
  constexpr unsigned kMemoryDevices = 1;  // /dev/null and its kind.
  return major(file.st_rdev) != kMemoryDevices;
}

}  // namespace

ProgressOptions DetectProgress(bool launched) {
  ProgressOptions options;
  options.terminal =
      isatty(STDOUT_FILENO) == 1 && (!launched || LauncherHasTerminal());
  const char* no_colour = std::getenv("NO_COLOR");
  options.colour =
      options.terminal && (no_colour == nullptr || *no_colour == '\0');
  return options;
}

std::string Duration(double seconds) {
  const int64_t s = seconds < 0 ? 0 : static_cast<int64_t>(seconds + 0.5);
  if (s >= 3600) {
    return absl::StrFormat("%d:%02d:%02d", s / 3600, s / 60 % 60, s % 60);
  }
  return absl::StrFormat("%d:%02d", s / 60, s % 60);
}

std::string PlainLine(const ProgressPoint& point) {
  return absl::StrFormat("step %d/%d  loss %.4f  %.0f tokens/s  left %s",
                         point.step, point.steps, point.loss,
                         point.tokens_per_second, Duration(point.seconds_left));
}

std::string BarLine(const ProgressPoint& point, bool colour) {
  constexpr int kWidth = 28;
  const int full =
      point.steps > 0 ? static_cast<int>(kWidth * point.step / point.steps) : 0;
  std::string bar = colour ? "\033[36m" : "";
  for (int i = 0; i < kWidth; ++i) bar += i < full ? "█" : "·";
  if (colour) bar += "\033[0m";
  return bar + " " + PlainLine(point);
}

void Progress::Show(const ProgressPoint& point) {
  const auto now = std::chrono::steady_clock::now();
  if (options_.terminal) {
    // A redraw a step would cost small models time.
    if (now - drawn_ < std::chrono::milliseconds(100) &&
        point.step < point.steps) {
      return;
    }
    drawn_ = now;
    std::printf("\r\033[K%s", BarLine(point, options_.colour).c_str());
    open_ = true;
  } else if (point.step == 1 || point.step % options_.every == 0 ||
             point.step == point.steps) {
    std::printf("%s\n", PlainLine(point).c_str());
  }
  std::fflush(stdout);
}

void Progress::Say(const std::string& line) {
  std::printf("%s%s\n", open_ ? "\r\033[K" : "", line.c_str());
  std::fflush(stdout);
  open_ = false;
}

void Progress::Finish() {
  if (open_) std::printf("\n");
  open_ = false;
  std::fflush(stdout);
}

}  // namespace zeromini::tools
