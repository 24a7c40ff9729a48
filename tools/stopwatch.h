// Seconds since it was made, on a clock that nobody sets.

#ifndef ZEROMINI_TOOLS_STOPWATCH_H_
#define ZEROMINI_TOOLS_STOPWATCH_H_

#include <chrono>

namespace zeromini::tools {

class Stopwatch {
 public:
  double seconds() const {
    return std::chrono::duration<double>(Clock::now() - began_).count();
  }

 private:
  using Clock = std::chrono::steady_clock;
  Clock::time_point began_ = Clock::now();
};

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_STOPWATCH_H_
