// An all-gather on two levels: between hosts, then inside the host.

#ifndef ZEROMINI_COMM_MPI_MPI_ALL_GATHER_H_
#define ZEROMINI_COMM_MPI_MPI_ALL_GATHER_H_

#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "comm/mpi/mpi_link.h"

namespace zeromini {

// In each step every rank puts a chunk of its segment into its window, from
// where its host reads it and one courier on each other host is sent it; the
// courier receives it into its own window, where its host reads it. A host
// sends (hosts-1) times its ranks' segments.
class MpiAllGather {
 public:
  // `in` is this rank's segment, `out` the whole; `in` may lie in it.
  MpiAllGather(MpiLink& link, const Call& call, const Segments& segments,
               const void* in, void* out);

  absl::Status Run();

 private:
  absl::Status Stage(int64_t k);
  absl::Status Finish(int64_t k);
  void CopyOut(int64_t k, int segment);

  MpiLink& link_;
  const Signature& what_;
  const Segments& segments_;
  const char* const in_;
  char* const out_;
  const DType dtype_;
  const DType wire_;
  const int64_t element_;
  const int64_t wire_element_;
  std::vector<int> deliveries_;  // Segments of other hosts that we receive.
  const int depth_;              // Steps in flight.
  std::deque<MpiRequests> sets_;
  int64_t first_step_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_ALL_GATHER_H_
