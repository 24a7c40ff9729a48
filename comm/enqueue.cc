#include "comm/enqueue.h"

#include <memory>
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

absl::Status ErrorOf(HostStream* stream) {
  if (stream == nullptr) return absl::OkStatus();
  const std::shared_ptr<HostEvent> event = stream->Record();
  return event->done() ? event->Wait(absl::InfiniteFuture()) : absl::OkStatus();
}

}  // namespace zeromini
