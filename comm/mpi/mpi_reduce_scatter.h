// A reduce-scatter on two levels: inside the host, then between hosts.

#ifndef ZEROMINI_COMM_MPI_MPI_REDUCE_SCATTER_H_
#define ZEROMINI_COMM_MPI_MPI_REDUCE_SCATTER_H_

#include <deque>
#include <vector>

#include "absl/status/status.h"
#include "comm/mpi/mpi_link.h"
#include "comm/rank_order_reduce.h"

namespace zeromini {

// In each step every rank puts a chunk of each segment that others of its host
// will add up into the host's window, and adds up those that are its to add:
// its own segment, and those of other hosts' ranks that it is courier for. The
// host's sum of the latter goes to the segment's owner, so a host sends
// (hosts-1)/hosts of the payload. The owner adds the hosts' sums, in fp32.
//
// Sums are taken in rank order inside a host and in host order between them:
// with one host, or one rank a host, in rank order.
class MpiReduceScatter {
 public:
  // `in` is the whole, `out` this rank's segment; it may be that of `in`.
  // `segments` have been cut into chunks.
  MpiReduceScatter(MpiLink& link, const Call& call, const Segments& segments,
                   const void* in, void* out);

  absl::Status Run();

 private:
  absl::Status Stage(int64_t k);
  absl::Status AddInHost(int64_t k);
  absl::Status SendSum(int64_t k, int segment, int place);
  absl::Status ReceiveSums(int64_t k);
  absl::Status AddHosts(int64_t k);

  // The contributions of this host's ranks to chunk `k` of `segment`, in rank
  // order.
  std::vector<WireSource> Contributions(int64_t k, int segment);
  const char* In(int64_t element) const;
  char* Sum(int64_t k, int place);     // A sum on its way to its owner.
  char* Landing(int64_t k, int host);  // Another host's sum of our segment.
  char* OwnSum(int64_t k);             // This host's.
  void Fold(absl::Span<const WireSource> sources, void* out, int64_t count);

  MpiLink& link_;
  const Signature& what_;
  const Segments& segments_;
  const char* const in_;
  char* const out_;
  const DType dtype_;
  const DType wire_;
  const ReduceOp op_;
  const int64_t element_;
  const int64_t wire_element_;
  std::vector<int> errands_;  // Segments of other hosts that we add up.
  char* scratch_;
  const int depth_;  // Steps in flight.
  std::deque<MpiRequests> sets_;
  int64_t first_step_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_REDUCE_SCATTER_H_
