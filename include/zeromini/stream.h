// Stream: an in-order queue of work, the same idea on every device.
//
// On a GPU it is the runtime library's stream. On the host it is a HostStream:
// a worker thread that runs tasks one after another. A null native with kHost
// is the caller's own thread: work given to it is done when the call returns. A
// null native of another device is whatever that device's library means by it.
//
// Only the code of a stream's own device looks into it; all others pass it on.

#ifndef ZEROMINI_STREAM_H_
#define ZEROMINI_STREAM_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "zeromini/internal/check.h"
#include "zeromini/types.h"

namespace zeromini {

struct Stream {
  void* native = nullptr;  // A HostStream* or a cudaStream_t, by `device`.
  DeviceKind device = DeviceKind::kHost;

  // The caller's own thread, not what another device means by a null native.
  bool is_callers_thread() const {
    return native == nullptr && device == DeviceKind::kHost;
  }
};

// A point in a host stream's order. Done once every task enqueued before it has
// run; then it carries the stream's first error, or OK. Any thread may wait.
class HostEvent {
 public:
  virtual ~HostEvent() = default;

  // DeadlineExceeded if it is not done by `deadline`; otherwise its status.
  // What is left until then is measured by a clock that does not step.
  virtual absl::Status Wait(absl::Time deadline) = 0;
  virtual bool done() const = 0;
};

// Thread-safe. The first task that fails poisons the stream: later tasks are
// dropped, and every later event carries that first error.
class HostStream {
 public:
  // Runs or drops what is queued, then joins the worker. Never communicates.
  virtual ~HostStream() = default;

  virtual void Enqueue(std::function<absl::Status()> task) = 0;
  virtual std::shared_ptr<HostEvent> Record() = 0;

  // Later tasks run only once `event` is done. If it carries an error, so does
  // this stream from here on.
  virtual void WaitFor(std::shared_ptr<HostEvent> event) = 0;

  // Drops queued tasks and makes `why` the stream's error, unless it has one.
  virtual void Poison(absl::Status why) = 0;

  Stream handle() { return Stream{this, DeviceKind::kHost}; }

  // Null for the caller's own thread. Aborts the process if the stream is of
  // another device: what it points to would be taken for what it is not.
  static HostStream* From(Stream stream) {
    ZEROMINI_CHECK(stream.device == DeviceKind::kHost);
    return static_cast<HostStream*>(stream.native);
  }

  // A stream backed by one worker thread. `name` is what debuggers show. If the
  // system makes no thread, a stream that has failed with ResourceExhausted.
  static std::unique_ptr<HostStream> Create(const std::string& name);
};

}  // namespace zeromini

#endif  // ZEROMINI_STREAM_H_
