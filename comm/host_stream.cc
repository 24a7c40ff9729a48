#include <pthread.h>

#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/stream_event.h"
#include "comm/stream_queue.h"
#include "zeromini/stream.h"

namespace zeromini {
namespace {

class WorkerStream : public HostStream {
 public:
  explicit WorkerStream(const std::string& name) : worker_([this] { Work(); }) {
    constexpr size_t kLongestThreadName = 15;
    pthread_setname_np(worker_.native_handle(),
                       name.substr(0, kLongestThreadName).c_str());
  }

  ~WorkerStream() override {
    Poison(absl::CancelledError("the stream was destroyed"));
    queue_.Stop();
    worker_.join();
  }

  void Enqueue(std::function<absl::Status()> task) override {
    queue_.Push({std::move(task), nullptr, nullptr});
  }

  std::shared_ptr<HostEvent> Record() override {
    auto event = std::make_shared<StreamEvent>();
    queue_.Push({nullptr, nullptr, event});
    return event;
  }

  void WaitFor(std::shared_ptr<HostEvent> event) override {
    queue_.Push({nullptr, std::move(event), nullptr});
  }

  void Poison(absl::Status why) override { queue_.Poison(std::move(why)); }

 private:
  void Work() {
    for (;;) {
      StreamQueue::Entry entry;  // What it holds is let go before the next.
      if (!queue_.Pop(&entry)) return;
      queue_.Run(entry);
    }
  }

  StreamQueue queue_{absl::InfiniteDuration()};
  std::thread worker_;  // Last: it uses the queue.
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
