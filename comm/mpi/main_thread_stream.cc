#include "comm/mpi/main_thread_stream.h"

#include <mpi.h>

#include <algorithm>
#include <deque>
#include <mutex>
#include <utility>

#include "absl/time/clock.h"
#include "comm/stream_event.h"

namespace zeromini {
namespace {

// One entry of the queue: exactly one member is set.
struct Entry {
  std::function<absl::Status()> task;
  std::shared_ptr<HostEvent> awaited;
  std::shared_ptr<StreamEvent> recorded;
};

class Queue {
 public:
  explicit Queue(absl::Duration timeout) : timeout_(timeout) {}

  absl::Duration timeout() const { return timeout_; }

  void Push(Entry entry) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_.ok() && entry.recorded == nullptr) return;
      entries_.push_back(std::move(entry));
    }
    if (OnMainThread()) Run();
  }

  // The main thread's. A task that enqueues is followed by what it enqueues.
  void Run() {
    Entry entry;
    while (Next(&entry)) {
      if (entry.recorded != nullptr) {
        entry.recorded->Finish(error());
      } else if (entry.task != nullptr) {
        Poison(entry.task());
      } else {
        Poison(Await(*entry.awaited));
      }
      std::lock_guard<std::mutex> lock(mutex_);
      running_ = false;
    }
  }

  void Poison(absl::Status why) {
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
  }

  // Nothing will run any more.
  void End() {
    Poison(absl::CancelledError("the stream was destroyed"));
    std::lock_guard<std::mutex> lock(mutex_);
    for (Entry& entry : entries_) entry.recorded->Finish(error_);
    entries_.clear();
  }

 private:
  bool Next(Entry* entry) {
    *entry = Entry();
    std::lock_guard<std::mutex> lock(mutex_);
    if (running_ || entries_.empty()) return false;
    *entry = std::move(entries_.front());
    entries_.pop_front();
    running_ = true;
    return true;
  }

  absl::Status error() {
    std::lock_guard<std::mutex> lock(mutex_);
    return error_;
  }

  // Another thread may fail this stream meanwhile.
  absl::Status Await(HostEvent& event) {
    constexpr absl::Duration kLook = absl::Milliseconds(10);
    // As the runtime's patience with a stream: see StreamPatience().
    constexpr int kExchanges = 100;
    Patience patience(kExchanges * timeout_);
    while (error().ok()) {
      if (event.done()) return event.Wait(absl::InfiniteFuture());
      if (patience.IsOver()) {
        return absl::DeadlineExceededError(
            "mpi: what the exchanges wait for was not done in time");
      }
      event.Wait(absl::Now() + kLook).IgnoreError();
    }
    return absl::OkStatus();
  }

  const absl::Duration timeout_;
  std::mutex mutex_;
  std::deque<Entry> entries_;
  absl::Status error_;
  bool running_ = false;
};

class MainThreadEvent : public HostEvent {
 public:
  MainThreadEvent(std::shared_ptr<Queue> queue,
                  std::shared_ptr<StreamEvent> event)
      : queue_(std::move(queue)), event_(std::move(event)) {}

  bool done() const override {
    if (OnMainThread()) queue_->Run();
    return event_->done();
  }

  absl::Status Wait(absl::Time deadline) override {
    if (OnMainThread()) {
      queue_->Run();
      return event_->Wait(deadline);
    }
    const absl::Time latest = absl::Now() + queue_->timeout();
    const absl::Status status = event_->Wait(std::min(deadline, latest));
    if (deadline <= latest || event_->done()) return status;
    // Drops what may refer to the caller's frame.
    const absl::Status why = absl::FailedPreconditionError(
        "mpi: only the thread that has initialised MPI may exchange, this wait "
        "is on another, and that one made no call meanwhile: wait there, or "
        "initialise MPI with MPI_THREAD_MULTIPLE");
    queue_->Poison(why);
    return why;
  }

 private:
  const std::shared_ptr<Queue> queue_;
  const std::shared_ptr<StreamEvent> event_;
};

class MainThreadStream : public HostStream {
 public:
  explicit MainThreadStream(absl::Duration timeout)
      : queue_(std::make_shared<Queue>(timeout)) {}
  ~MainThreadStream() override { queue_->End(); }

  void Enqueue(std::function<absl::Status()> task) override {
    queue_->Push(Entry{std::move(task), nullptr, nullptr});
  }
  std::shared_ptr<HostEvent> Record() override {
    auto event = std::make_shared<StreamEvent>();
    queue_->Push(Entry{nullptr, nullptr, event});
    return std::make_shared<MainThreadEvent>(queue_, std::move(event));
  }
  void WaitFor(std::shared_ptr<HostEvent> event) override {
    queue_->Push(Entry{nullptr, std::move(event), nullptr});
  }
  void Poison(absl::Status why) override { queue_->Poison(std::move(why)); }

 private:
  const std::shared_ptr<Queue> queue_;
};

}  // namespace

std::unique_ptr<HostStream> MakeMainThreadStream(absl::Duration timeout) {
  return std::make_unique<MainThreadStream>(timeout);
}

bool OnMainThread() {
  int is_main = 0;
  MPI_Is_thread_main(&is_main);
  return is_main != 0;
}

}  // namespace zeromini
