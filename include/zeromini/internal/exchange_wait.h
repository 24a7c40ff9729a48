// A wait on the host for what a group was given to do.

#ifndef ZEROMINI_INTERNAL_EXCHANGE_WAIT_H_
#define ZEROMINI_INTERNAL_EXCHANGE_WAIT_H_

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "zeromini/communicator.h"

namespace zeromini {

// Blocks until this rank's exchanges are done; their first error. It has no
// deadline: every exchange has its own and names who did not come. One more
// would end first, with less to say, and leave an exchange writing to memory
// that its caller has given up.
inline absl::Status WaitForExchanges(Communicator& group) {
  return group.Finish(absl::InfiniteFuture());
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_EXCHANGE_WAIT_H_
