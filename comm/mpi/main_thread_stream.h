// A stream for an MPI that may be called from one thread only.

#ifndef ZEROMINI_COMM_MPI_MAIN_THREAD_STREAM_H_
#define ZEROMINI_COMM_MPI_MAIN_THREAD_STREAM_H_

#include <memory>

#include "absl/time/time.h"
#include "zeromini/stream.h"

namespace zeromini {

// Runs its tasks on the thread that has initialised MPI: at once if it is that
// thread that enqueues one, otherwise when that thread enqueues the next one or
// waits for an event. A wait on another thread ends after `timeout` with
// FailedPrecondition, and the stream has failed then.
std::unique_ptr<HostStream> MakeMainThreadStream(absl::Duration timeout);

// The thread that has initialised MPI.
bool OnMainThread();

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MAIN_THREAD_STREAM_H_
