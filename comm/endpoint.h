// What a backend implements: one rank's end of a group, blocking. The queue in
// front of it is the same for all backends (queued_communicator.h).

#ifndef ZEROMINI_COMM_ENDPOINT_H_
#define ZEROMINI_COMM_ENDPOINT_H_

#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "comm/call.h"

namespace zeromini {

class Endpoint {
 public:
  virtual ~Endpoint() = default;  // Never communicates.

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* backend() const = 0;
  virtual absl::Duration timeout() const = 0;

  // What Run() has sent so far, the exchanges that have returned included. Any
  // thread. Zeros where the backend cannot tell.
  virtual LevelTraffic level_traffic() const { return {}; }

  // Does the exchange and returns when this rank's buffers are free again. One
  // at a time, on the rank's stream. `call` has passed CheckCall().
  virtual absl::Status Run(const Call& call) = 0;

  // Null for a negative color. As Run(): one at a time, collective.
  virtual absl::StatusOr<std::shared_ptr<Endpoint>> Split(int color,
                                                          int key) = 0;

  // Collective; gives back what the backend duplicated. Run() is over.
  virtual absl::Status Free() = 0;

  // Any thread. Keeps the first error; wakes a Run() in progress.
  virtual void Break(const absl::Status& why) = 0;
  virtual absl::Status error() const = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_ENDPOINT_H_
