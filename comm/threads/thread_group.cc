#include <algorithm>

#include "absl/strings/str_cat.h"
#include "comm/enqueue.h"
#include "comm/queued_communicator.h"
#include "comm/threads/thread_endpoint.h"
#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> ThreadGroup(
    int size, const GroupOptions& options) {
  if (size < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("a group needs at least one rank, got ", size));
  }
  // An infinite one would overflow the clock.
  const absl::Duration timeout =
      std::min(options.timeout, absl::Hours(24 * 365));
  auto rendezvous = std::make_shared<Rendezvous>(size, timeout);
  std::vector<std::unique_ptr<Communicator>> group;
  for (int rank = 0; rank < size; ++rank) {
    std::shared_ptr<HostStream> stream =
        options.make_stream
            ? options.make_stream(rank)
            : HostStream::Create(absl::StrCat("zm-comm-", rank));
    ZEROMINI_RETURN_IF_ERROR(ErrorOf(stream.get()));
    group.push_back(MakeQueuedCommunicator(
        std::make_shared<ThreadEndpoint>(rank, rendezvous), std::move(stream)));
  }
  return group;
}

}  // namespace zeromini
