// Patience: how long a wait may last.

#ifndef ZEROMINI_COMM_PATIENCE_H_
#define ZEROMINI_COMM_PATIENCE_H_

#include <algorithm>
#include <chrono>

#include "absl/time/time.h"

namespace zeromini {

// How many exchanges, each of which may take a group's whole timeout, what
// waits for a stream allows to be ahead of it.
inline constexpr int kExchangesOfPatience = 100;

// Measures by a clock that does not step, and leaves out the time in which the
// process did not run: a job that a scheduler suspends for longer than a
// timeout goes on as if nothing had been. To be asked often, for what passes
// between two looks is counted up to a limit.
class Patience {
 public:
  explicit Patience(absl::Duration limit)
      : limit_(std::min(limit, absl::Hours(24 * 365))),
        most_(std::clamp(limit_ / 4, absl::Milliseconds(1),
                         absl::Milliseconds(500))) {}

  // Counts the time since the last look. True if there is none left.
  bool IsOver() {
    const Clock::time_point now = Clock::now();
    spent_ += std::min(absl::FromChrono(now - last_), most_);
    last_ = now;
    return spent_ >= limit_;
  }

  // How long a wait that blocks may last until the next look.
  std::chrono::nanoseconds Slice() const {
    return absl::ToChronoNanoseconds(
        std::clamp(limit_ - spent_, absl::ZeroDuration(), most_ / 4));
  }

  absl::Duration spent() const { return spent_; }

 private:
  using Clock = std::chrono::steady_clock;

  absl::Duration limit_;
  absl::Duration most_;
  Clock::time_point last_ = Clock::now();
  absl::Duration spent_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_PATIENCE_H_
