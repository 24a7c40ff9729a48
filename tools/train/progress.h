// Progress: one moving line on a terminal, a plain line now and then otherwise.

#ifndef ZEROMINI_TOOLS_TRAIN_PROGRESS_H_
#define ZEROMINI_TOOLS_TRAIN_PROGRESS_H_

#include <chrono>
#include <cstdint>
#include <string>

namespace zeromini::tools {

struct ProgressPoint {
  int64_t step = 0;
  int64_t steps = 0;
  double loss = 0;
  double tokens_per_second = 0;
  double seconds_left = 0;
};

struct ProgressOptions {
  bool terminal = false;
  bool colour = false;
  int64_t every = 50;  // Steps between plain lines.
};

// Terminal and colour from stdout and NO_COLOR. `launched`: a launcher started
// this process and passes its output on.
ProgressOptions DetectProgress(bool launched);

std::string PlainLine(const ProgressPoint& point);
std::string BarLine(const ProgressPoint& point, bool colour);
std::string Duration(double seconds);  // "1:05", "2:03:09".

class Progress {
 public:
  explicit Progress(const ProgressOptions& options) : options_(options) {}

  void Show(const ProgressPoint& point);
  void Say(const std::string& line);  // A line of its own, above the bar.
  void Finish();

 private:
  ProgressOptions options_;
  std::chrono::steady_clock::time_point drawn_;
  bool open_ = false;  // A bar without its end of line.
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_PROGRESS_H_
