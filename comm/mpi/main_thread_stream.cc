#include "comm/mpi/main_thread_stream.h"

#include <mpi.h>

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "comm/patience.h"
#include "comm/stream_event.h"
#include "comm/stream_queue.h"

namespace zeromini {
namespace {

// Run by the main thread, whenever it calls.
class Queue {
 public:
  explicit Queue(absl::Duration timeout)
      : timeout_(timeout), queue_(kExchangesOfPatience * timeout) {}

  absl::Duration timeout() const { return timeout_; }

  void Push(StreamQueue::Entry entry) {
    queue_.Push(std::move(entry));
    if (OnMainThread()) Run();
  }

  // The main thread's. A task that enqueues is followed by what it enqueues.
  void Run() {
    if (running_) return;
    running_ = true;
    for (;;) {
      StreamQueue::Entry entry;  // What it holds is let go before the next.
      if (!queue_.TryPop(&entry)) break;
      queue_.Run(entry);
    }
    running_ = false;
  }

  void Poison(absl::Status why) { queue_.Poison(std::move(why)); }

  // Nothing will run any more; only events are left.
  void End() {
    Poison(absl::CancelledError("the stream was destroyed"));
    StreamQueue::Entry entry;
    while (queue_.TryPop(&entry)) queue_.Run(entry);
  }

 private:
  const absl::Duration timeout_;
  StreamQueue queue_;
  bool running_ = false;  // The main thread's alone.
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
    queue_->Push({std::move(task), nullptr, nullptr});
  }
  std::shared_ptr<HostEvent> Record() override {
    auto event = std::make_shared<StreamEvent>();
    queue_->Push({nullptr, nullptr, event});
    return std::make_shared<MainThreadEvent>(queue_, std::move(event));
  }
  void WaitFor(std::shared_ptr<HostEvent> event) override {
    queue_->Push({nullptr, std::move(event), nullptr});
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
