// A set of point-to-point transfers that are waited for together.

#ifndef ZEROMINI_COMM_MPI_MPI_REQUESTS_H_
#define ZEROMINI_COMM_MPI_MPI_REQUESTS_H_

#include <mpi.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "comm/mpi/mpi_watch.h"

namespace zeromini {

class MpiRequests {
 public:
  explicit MpiRequests(MPI_Comm comm) : comm_(comm) {}
  MpiRequests(const MpiRequests&) = delete;
  MpiRequests& operator=(const MpiRequests&) = delete;

  // Transfers that are not complete are given up: receives are cancelled if no
  // message has matched them yet, the rest is left to MPI, which may touch its
  // buffers until it is finalised.
  ~MpiRequests();

  // At most 2^31-1 bytes.
  absl::Status Send(const void* data, int64_t bytes, int peer, int tag);
  absl::Status Receive(void* data, int64_t bytes, int peer, int tag);

  // For MpiWatch::Until(). Once all are complete the set is empty again.
  absl::StatusOr<MpiWatch::Progress> Look();

  // Peers of transfers that are not complete, ascending, each once.
  std::vector<int> pending_peers() const;

 private:
  struct Transfer {
    int peer;
    bool receives;
  };

  const MPI_Comm comm_;
  std::vector<MPI_Request> requests_;
  std::vector<Transfer> transfers_;  // By request.
  std::vector<int> indices_;         // Scratch of Look().
  int pending_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_REQUESTS_H_
