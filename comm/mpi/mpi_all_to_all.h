// An all-to-all: through the window inside a host, by messages between hosts.

#ifndef ZEROMINI_COMM_MPI_MPI_ALL_TO_ALL_H_
#define ZEROMINI_COMM_MPI_MPI_ALL_TO_ALL_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "comm/mpi/mpi_link.h"

namespace zeromini {

// The ranks gather all counts first. In each step every rank puts a chunk for
// every other rank into its window, from where its neighbours read theirs and
// the others are sent theirs. All ranks do as many steps as the longest segment
// takes, for those of a host go in step: who has nothing to move still counts.
class MpiAllToAll {
 public:
  MpiAllToAll(MpiLink& link, const Call& call);

  // InvalidArgument, the same words on every rank, if the counts do not match.
  absl::Status Run();

 private:
  absl::Status GatherCounts();
  void CopyOwn();
  absl::Status Receive(int64_t k);
  absl::Status Stage(int64_t k);
  absl::Status Finish(int64_t k);
  absl::Status Send(int64_t k, int peer);
  void CopyOut(int64_t k, int peer);

  // Bytes of chunk `k` of a segment of `count` elements, maybe 0.
  int64_t ChunkBytes(int64_t count, int64_t k) const;
  bool IsNeighbour(int peer) const;
  char* Landing(int64_t k, int peer);

  MpiLink& link_;
  const Call& call_;
  const int64_t element_;
  const int64_t chunk_;              // Elements.
  const int depth_;                  // Steps in flight.
  std::vector<int64_t> send_begin_;  // Bytes, by rank.
  std::vector<int64_t> receive_begin_;
  int64_t steps_ = 0;
  int64_t first_step_ = 0;
  char* scratch_ = nullptr;
  std::deque<MpiRequests> sets_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_ALL_TO_ALL_H_
