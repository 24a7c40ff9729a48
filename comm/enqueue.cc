#include "comm/enqueue.h"

#include <utility>

namespace zeromini {

absl::Status EnqueueOn(HostStream* stream, std::function<absl::Status()> task) {
  if (stream == nullptr) return task();
  stream->Enqueue(std::move(task));
  return absl::OkStatus();
}

absl::Status RunOnAndWait(HostStream* stream,
                          std::function<absl::Status()> task) {
  if (stream == nullptr) return task();
  stream->Enqueue(std::move(task));
  return stream->Record()->Wait(absl::InfiniteFuture());
}

}  // namespace zeromini
