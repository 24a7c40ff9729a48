#include "comm/stream_queue.h"

#include <utility>

#include "absl/time/clock.h"
#include "comm/patience.h"

namespace zeromini {

void StreamQueue::Push(Entry entry) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!error_.ok() && entry.recorded == nullptr) return;
  entries_.push_back(std::move(entry));
  changed_.notify_all();
}

void StreamQueue::Take(Entry* entry) {
  *entry = std::move(entries_.front());
  entries_.pop_front();
}

bool StreamQueue::TryPop(Entry* entry) {
  std::lock_guard<std::mutex> lock(mutex_);
  if (entries_.empty()) return false;
  Take(entry);
  return true;
}

bool StreamQueue::Pop(Entry* entry) {
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || !entries_.empty(); });
  if (entries_.empty()) return false;
  Take(entry);
  return true;
}

void StreamQueue::Stop() {
  std::lock_guard<std::mutex> lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

void StreamQueue::Run(const Entry& entry) {
  if (entry.recorded != nullptr) {
    entry.recorded->Finish(error());
  } else if (entry.task != nullptr) {
    Poison(entry.task());
  } else {
    Poison(Await(*entry.awaited));
  }
}

void StreamQueue::Poison(absl::Status why) {
  // Declared before the lock: a dropped closure may call back into a stream.
  std::deque<Entry> dropped;
  std::lock_guard<std::mutex> lock(mutex_);
  if (!error_.ok() || why.ok()) return;
  error_ = std::move(why);
  std::deque<Entry> kept;
  for (Entry& entry : entries_) {
    (entry.recorded != nullptr ? kept : dropped).push_back(std::move(entry));
  }
  entries_ = std::move(kept);
  changed_.notify_all();
}

absl::Status StreamQueue::error() {
  std::lock_guard<std::mutex> lock(mutex_);
  return error_;
}

// The event may belong to anyone, so being woken by Poison() takes a look at
// our own error now and then.
absl::Status StreamQueue::Await(HostEvent& event) {
  constexpr absl::Duration kLook = absl::Milliseconds(10);
  Patience patience(patience_);
  while (error().ok()) {
    // A done event may itself carry DeadlineExceeded: done() tells.
    if (event.done()) return event.Wait(absl::InfiniteFuture());
    if (patience_ != absl::InfiniteDuration() && patience.IsOver()) {
      return absl::DeadlineExceededError(
          "what the stream waits for was not done in time");
    }
    event.Wait(absl::Now() + kLook).IgnoreError();
  }
  return absl::OkStatus();
}

}  // namespace zeromini
