// One rank of a group over MPI, by point-to-point messages only: a library
// collective that blocks cannot be given up when its deadline passes.

#ifndef ZEROMINI_COMM_MPI_MPI_ENDPOINT_H_
#define ZEROMINI_COMM_MPI_MPI_ENDPOINT_H_

#include <mpi.h>

#include <functional>
#include <memory>
#include <vector>

#include "comm/endpoint.h"
#include "comm/first_error.h"
#include "comm/mpi/mpi_requests.h"

namespace zeromini {

// An exchange starts with a greeting: every rank tells every other what it is
// about to do (32 bytes). So a rank that is late or does something else is
// found before any caller's buffer is touched. Payload follows straight between
// each pair, in chunks, two in flight.
//
// Reduced contributions arrive in buffers of ours, which outlive a break. Sends
// and gathered segments use the caller's: after a break in mid-payload MPI may
// still read the former and write the latter until it is finalised.
class MpiEndpoint : public Endpoint {
 public:
  // Takes over `comm`, on which errors must return. Endpoints that share a
  // stream share `broken`.
  static absl::StatusOr<std::shared_ptr<MpiEndpoint>> Create(
      MPI_Comm comm, absl::Duration timeout,
      std::shared_ptr<FirstError> broken);

  ~MpiEndpoint() override;

  int rank() const override { return rank_; }
  int size() const override { return size_; }
  const char* backend() const override { return "mpi"; }
  absl::Duration timeout() const override { return timeout_; }

  absl::Status Run(const Call& call) override;
  absl::StatusOr<std::shared_ptr<Endpoint>> Split(int color, int key) override;
  absl::Status Free() override;
  void Break(const absl::Status& why) override { broken_->Set(why); }
  absl::Status error() const override { return broken_->status(); }

 private:
  // How a call's elements lie: segment r belongs to rank r, the last ones may
  // be short or empty.
  struct Segments;
  // One step of a pipeline.
  using Step = std::function<absl::Status(int64_t step, MpiRequests& requests)>;

  MpiEndpoint(MPI_Comm comm, int rank, int size, absl::Duration timeout,
              std::shared_ptr<FirstError> broken)
      : comm_(comm),
        rank_(rank),
        size_(size),
        timeout_(timeout),
        broken_(std::move(broken)) {}

  absl::Status Greet(const Signature& signature);
  absl::Status ReduceScatter(const Call& call, const Segments& segments);
  absl::Status AllGather(const Call& call, const Segments& segments);
  absl::Status AllReduce(const Call& call);
  absl::Status AllReduceByGathering(const Call& call);
  absl::Status Broadcast(const Call& call);

  // Posts step k+2 once `finish` of step k is done.
  absl::Status Pipeline(int64_t steps, const Signature& what, const Step& post,
                        const Step& finish);
  absl::Status Await(MpiRequests& requests, const Signature& what);

  // The i-th peer to talk to, i in [1, size): each rank begins elsewhere.
  int Peer(int i) const { return (rank_ + i) % size_; }
  int64_t ChunkElements(DType dtype) const;
  char* Scratch(int64_t bytes);
  int GreetingTag() const { return tag_; }
  int PayloadTag() const { return tag_ + 1; }

  MPI_Comm comm_;
  const int rank_;
  const int size_;
  const absl::Duration timeout_;
  const std::shared_ptr<FirstError> broken_;

  int tag_ = 0;
  std::vector<Signature> greetings_;  // By rank.
  std::unique_ptr<char[]> scratch_;
  int64_t scratch_bytes_ = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_MPI_ENDPOINT_H_
