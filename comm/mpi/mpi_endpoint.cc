#include "comm/mpi/mpi_endpoint.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::StatusOr<std::shared_ptr<MpiEndpoint>> MpiEndpoint::Create(
    MPI_Comm comm, absl::Duration timeout, std::shared_ptr<FirstError> broken) {
  int rank = 0;
  int size = 0;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_rank(comm, &rank), "MPI_Comm_rank"));
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_size(comm, &size), "MPI_Comm_size"));
  return std::shared_ptr<MpiEndpoint>(
      new MpiEndpoint(comm, rank, size, timeout, std::move(broken)));
}

MpiEndpoint::~MpiEndpoint() {
  if (!broken_->is_set()) return;
  // Leaked, and only after a break: a late message may still land here.
  scratch_.release();
  new std::vector<Signature>(std::move(greetings_));
}

absl::Status MpiEndpoint::Await(MpiRequests& requests, const Signature& what) {
  absl::Status status = requests.Await(timeout_, *broken_);
  if (!absl::IsDeadlineExceeded(status) || broken_->is_set()) return status;
  return absl::DeadlineExceededError(
      absl::StrCat("mpi: rank ", rank_, " waited ",
                   absl::FormatDuration(timeout_), " in ", Describe(what), "; ",
                   DescribeRanks(requests.pending_peers()), " did not come"));
}

absl::Status MpiEndpoint::Greet(const Signature& signature) {
  // The tag tells exchanges apart, so that what a broken one left behind is
  // never taken for part of another. MPI promises tags up to 32767.
  constexpr int kTags = 32766;
  tag_ = (tag_ + 2) % kTags;
  greetings_.resize(size_);
  greetings_[rank_] = signature;
  MpiRequests requests(comm_);
  for (int i = 1; i < size_; ++i) {
    ZEROMINI_RETURN_IF_ERROR(requests.Receive(
        &greetings_[Peer(i)], sizeof(Signature), Peer(i), GreetingTag()));
  }
  for (int i = 1; i < size_; ++i) {
    ZEROMINI_RETURN_IF_ERROR(requests.Send(
        &greetings_[rank_], sizeof(Signature), Peer(i), GreetingTag()));
  }
  ZEROMINI_RETURN_IF_ERROR(Await(requests, signature));
  return CheckAgreement(greetings_);
}

absl::StatusOr<std::shared_ptr<Endpoint>> MpiEndpoint::Split(int color,
                                                             int key) {
  Signature signature;
  signature.collective = Collective::kSplit;
  // Blocks only for ranks that are known to be here.
  ZEROMINI_RETURN_IF_ERROR(Greet(signature));
  MPI_Comm child = MPI_COMM_NULL;
  ZEROMINI_RETURN_IF_ERROR(FromMpi(
      MPI_Comm_split(comm_, color < 0 ? MPI_UNDEFINED : color, key, &child),
      "MPI_Comm_split"));
  if (child == MPI_COMM_NULL) return nullptr;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Comm_set_errhandler(child, MPI_ERRORS_RETURN),
              "MPI_Comm_set_errhandler"));
  return Create(child, timeout_, broken_);
}

absl::Status MpiEndpoint::Free() {
  return FromMpi(MPI_Comm_free(&comm_), "MPI_Comm_free");
}

}  // namespace zeromini
