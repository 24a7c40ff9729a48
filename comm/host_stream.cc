#include <pthread.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "comm/stream_event.h"
#include "zeromini/stream.h"

namespace zeromini {
namespace {

// One entry of the queue: exactly one member is set.
struct Entry {
  std::function<absl::Status()> task;
  std::shared_ptr<HostEvent> awaited;
  std::shared_ptr<StreamEvent> recorded;
};

class WorkerStream : public HostStream {
 public:
  explicit WorkerStream(const std::string& name) : worker_([this] { Work(); }) {
    constexpr size_t kLongestThreadName = 15;
    pthread_setname_np(worker_.native_handle(),
                       name.substr(0, kLongestThreadName).c_str());
  }

  ~WorkerStream() override {
    Poison(absl::CancelledError("the stream was destroyed"));
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
      changed_.notify_all();
    }
    worker_.join();
  }

  void Enqueue(std::function<absl::Status()> task) override {
    Push(Entry{std::move(task), nullptr, nullptr});
  }

  std::shared_ptr<HostEvent> Record() override {
    auto event = std::make_shared<StreamEvent>();
    Push(Entry{nullptr, nullptr, event});
    return event;
  }

  void WaitFor(std::shared_ptr<HostEvent> event) override {
    Push(Entry{nullptr, std::move(event), nullptr});
  }

  void Poison(absl::Status why) override {
    // Declared before the lock: a dropped closure may call back into a stream.
    std::deque<Entry> dropped;
    std::lock_guard<std::mutex> lock(mutex_);
    if (!error_.ok() || why.ok()) return;
    error_ = std::move(why);
    // Events stay: they are done only when the running task is.
    std::deque<Entry> kept;
    for (Entry& entry : queue_) {
      (entry.recorded != nullptr ? kept : dropped).push_back(std::move(entry));
    }
    queue_ = std::move(kept);
    changed_.notify_all();
  }

 private:
  void Push(Entry entry) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!error_.ok() && entry.recorded == nullptr) return;
    queue_.push_back(std::move(entry));
    changed_.notify_all();
  }

  absl::Status error() {
    std::lock_guard<std::mutex> lock(mutex_);
    return error_;
  }

  void Work() {
    for (;;) {
      Entry entry;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
        if (queue_.empty()) return;
        entry = std::move(queue_.front());
        queue_.pop_front();
      }
      if (entry.recorded != nullptr) {
        entry.recorded->Finish(error());
      } else if (entry.task != nullptr) {
        Poison(entry.task());
      } else {
        Poison(Await(*entry.awaited));
      }
    }
  }

  // The event may belong to anyone, so being woken by Poison() takes a look at
  // our own error now and then.
  absl::Status Await(HostEvent& event) {
    constexpr absl::Duration kLook = absl::Milliseconds(10);
    while (error().ok()) {
      // A done event may itself carry DeadlineExceeded: done() tells.
      if (event.done()) return event.Wait(absl::InfiniteFuture());
      event.Wait(absl::Now() + kLook).IgnoreError();
    }
    return absl::OkStatus();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> queue_;
  absl::Status error_;
  bool stopping_ = false;
  std::thread worker_;  // Last: it uses all of the above.
};

// Has failed from the start: drops all tasks, and its events say why.
class FailedStream : public HostStream {
 public:
  explicit FailedStream(absl::Status why) : why_(std::move(why)) {}

  void Enqueue(std::function<absl::Status()>) override {}
  std::shared_ptr<HostEvent> Record() override {
    auto event = std::make_shared<StreamEvent>();
    event->Finish(why_);
    return event;
  }
  void WaitFor(std::shared_ptr<HostEvent>) override {}
  void Poison(absl::Status) override {}

 private:
  const absl::Status why_;
};

}  // namespace

std::unique_ptr<HostStream> HostStream::Create(const std::string& name) {
  try {
    return std::make_unique<WorkerStream>(name);
  } catch (const std::system_error& error) {
    return std::make_unique<FailedStream>(
        absl::ResourceExhaustedError(absl::StrCat(
            "no thread can be made for the stream '", name,
            "': ", error.code().message(),
            "; run fewer ranks, or allow more threads or memory (ulimit)")));
  }
}

}  // namespace zeromini
