// The event of a host stream.

#ifndef ZEROMINI_COMM_STREAM_EVENT_H_
#define ZEROMINI_COMM_STREAM_EVENT_H_

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
    const auto done = [this] { return done_; };
    if (deadline == absl::InfiniteFuture()) {
      became_done_.wait(lock, done);
      return status_;
    }
    Patience patience(deadline - absl::Now());
    while (!became_done_.wait_for(lock, patience.Slice(), done)) {
      if (patience.IsOver()) {
        return absl::DeadlineExceededError("the event was not done in time");
      }
    }
    return status_;
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
  mutable std::mutex mutex_;
  std::condition_variable became_done_;
  bool done_ = false;
  absl::Status status_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_STREAM_EVENT_H_
