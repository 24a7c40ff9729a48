// Streams that tests put under a group or a device. A DelayedStream dawdles:
// every task starts a pseudo-random while late, and what must not depend on
// timing must not change under it.

#ifndef ZEROMINI_TESTS_SUPPORT_DELAYED_STREAM_H_
#define ZEROMINI_TESTS_SUPPORT_DELAYED_STREAM_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "zeromini/stream.h"

namespace zeromini {

// A worker thread's stream that passes everything on; a test says when tasks
// run.
class StreamWrapper : public HostStream {
 public:
  explicit StreamWrapper(const std::string& name)
      : inner_(HostStream::Create(name)) {}

  void Enqueue(std::function<absl::Status()> task) override {
    inner_->Enqueue(std::move(task));
  }
  std::shared_ptr<HostEvent> Record() override { return inner_->Record(); }
  void WaitFor(std::shared_ptr<HostEvent> event) override {
    inner_->WaitFor(std::move(event));
  }
  void Poison(absl::Status why) override { inner_->Poison(std::move(why)); }

 protected:
  // Enqueues `task`, which the worker begins `delay` after it gets there.
  template <typename Delay>
  void EnqueueLate(Delay delay, std::function<absl::Status()> task) {
    inner_->Enqueue([delay, task = std::move(task)] {
      std::this_thread::sleep_for(delay);
      return task();
    });
  }

 private:
  const std::unique_ptr<HostStream> inner_;
};

class DelayedStream : public StreamWrapper {
 public:
  DelayedStream(uint32_t seed, std::chrono::microseconds longest)
      : StreamWrapper("delayed"), rng_(seed), longest_(longest) {}

  void Enqueue(std::function<absl::Status()> task) override {
    EnqueueLate(NextDelay(), std::move(task));
  }

  // For GroupOptions::make_stream: every rank is late in its own way.
  static std::function<std::unique_ptr<HostStream>(int)> Factory(
      uint32_t seed, std::chrono::microseconds longest) {
    return [seed, longest](int rank) -> std::unique_ptr<HostStream> {
      return std::make_unique<DelayedStream>(seed + 977u * rank, longest);
    };
  }

 private:
  std::chrono::microseconds NextDelay() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::chrono::microseconds(
        std::uniform_int_distribution<int64_t>(0, longest_.count())(rng_));
  }

  std::mutex mutex_;
  std::mt19937 rng_;
  const std::chrono::microseconds longest_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_DELAYED_STREAM_H_
