// Work on a stream that may be the caller's own thread.

#ifndef ZEROMINI_COMM_ENQUEUE_H_
#define ZEROMINI_COMM_ENQUEUE_H_

#include <functional>

#include "absl/status/status.h"
#include "zeromini/stream.h"

namespace zeromini {

// Enqueues `task` and returns OK; on the null stream runs it here and returns
// its status.
absl::Status EnqueueOn(HostStream* stream, std::function<absl::Status()> task);

// The same, but returns when the task has run (and all before it), with the
// stream's first error. Not to be called from the stream's own tasks.
absl::Status RunOnAndWait(HostStream* stream,
                          std::function<absl::Status()> task);

// The error of a stream that is known to have failed; OK for the null stream.
absl::Status ErrorOf(HostStream* stream);

}  // namespace zeromini

#endif  // ZEROMINI_COMM_ENQUEUE_H_
