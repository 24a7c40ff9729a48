// What a host stream has queued, and its first error.

#ifndef ZEROMINI_COMM_STREAM_QUEUE_H_
#define ZEROMINI_COMM_STREAM_QUEUE_H_

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "comm/stream_event.h"
#include "zeromini/stream.h"

namespace zeromini {

// Thread-safe. Whoever runs a stream takes entries out one after another and
// runs each before it takes the next.
class StreamQueue {
 public:
  // Exactly one member is set.
  struct Entry {
    std::function<absl::Status()> task;
    std::shared_ptr<HostEvent> awaited;
    std::shared_ptr<StreamEvent> recorded;
  };

  // An entry that waits for a foreign event does so for `patience` at most.
  explicit StreamQueue(absl::Duration patience) : patience_(patience) {}

  // Drops what is no event once the stream has failed.
  void Push(Entry entry);

  // False if there is nothing. Pop() blocks until there is something or Stop()
  // has been called, and takes out what is left even then.
  bool TryPop(Entry* entry);
  bool Pop(Entry* entry);
  void Stop();

  // A failure poisons the queue.
  void Run(const Entry& entry);

  // Makes `why` the error, unless there is one, and drops all but events, which
  // are done only when what runs is.
  void Poison(absl::Status why);

 private:
  void Take(Entry* entry);  // Requires mutex_, and an entry.
  absl::Status error();
  absl::Status Await(HostEvent& event);

  const absl::Duration patience_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Entry> entries_;
  absl::Status error_;
  bool stopping_ = false;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_STREAM_QUEUE_H_
