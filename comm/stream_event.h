// The event of a host stream.

#ifndef ZEROMINI_COMM_STREAM_EVENT_H_
#define ZEROMINI_COMM_STREAM_EVENT_H_

#include <algorithm>
#include <condition_variable>
#include <mutex>
#include <utility>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "comm/patience.h"
#include "zeromini/stream.h"

namespace zeromini {

// std::mutex throughout, because ThreadSanitizer cannot see into a packaged
// Abseil.
class StreamEvent : public HostEvent {
 public:
  absl::Status Wait(absl::Time deadline) override {
    std::unique_lock<std::mutex> lock(mutex_);
    if (deadline == absl::InfiniteFuture()) {
      became_done_.wait(lock, [this] { return done_; });
      return status_;
    }
    return Await(lock, deadline - absl::Now())
               ? status_
               : absl::DeadlineExceededError("the event was not done in time");
  }

  bool done() const override {
    std::lock_guard<std::mutex> lock(mutex_);
    return done_;
  }

  void Finish(absl::Status status) {
    std::lock_guard<std::mutex> lock(mutex_);
    status_ = std::move(status);
    done_ = true;
    became_done_.notify_all();
  }

 private:
  // False if it is not done within `limit`.
  bool Await(std::unique_lock<std::mutex>& lock, absl::Duration limit) {
    const auto done = [this] { return done_; };
    // Streams wait for events in many such: to wake once in each is enough.
    constexpr absl::Duration kShort = absl::Milliseconds(500);
    if (limit <= kShort) {
      return became_done_.wait_for(
          lock,
          absl::ToChronoNanoseconds(std::max(limit, absl::ZeroDuration())),
          done);
    }
    Patience patience(limit);
    while (!became_done_.wait_for(lock, patience.Slice(), done)) {
      if (patience.IsOver()) return false;
    }
    return true;
  }

  mutable std::mutex mutex_;
  std::condition_variable became_done_;
  bool done_ = false;
  absl::Status status_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_STREAM_EVENT_H_
