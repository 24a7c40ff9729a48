// A Communicator that enqueues every exchange of an Endpoint on one stream.

#ifndef ZEROMINI_COMM_QUEUED_COMMUNICATOR_H_
#define ZEROMINI_COMM_QUEUED_COMMUNICATOR_H_

#include <memory>

#include "comm/endpoint.h"
#include "zeromini/communicator.h"

namespace zeromini {

// `stream` may be null: exchanges then run on the caller's thread. `overlaps`:
// it has a thread of its own. Groups that Split() makes hold on to it too.
// Destroying the result while exchanges are pending breaks the group, so that
// neither side waits.
std::unique_ptr<Communicator> MakeQueuedCommunicator(
    std::shared_ptr<Endpoint> endpoint, std::shared_ptr<HostStream> stream,
    bool overlaps = true);

}  // namespace zeromini

#endif  // ZEROMINI_COMM_QUEUED_COMMUNICATOR_H_
