#include "comm/mpi/mpi_requests.h"

#include <algorithm>

#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

MpiRequests::~MpiRequests() {
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (transfers_[i].receives) MPI_Cancel(&requests_[i]);
    MPI_Request_free(&requests_[i]);
  }
}

absl::Status MpiRequests::Send(const void* data, int64_t bytes, int peer,
                               int tag) {
  MPI_Request request = MPI_REQUEST_NULL;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Isend(data, static_cast<int>(bytes), MPI_BYTE, peer, tag,
                        comm_, &request),
              "MPI_Isend"));
  requests_.push_back(request);
  transfers_.push_back({peer, false});
  ++pending_;
  return absl::OkStatus();
}

absl::Status MpiRequests::Receive(void* data, int64_t bytes, int peer,
                                  int tag) {
  MPI_Request request = MPI_REQUEST_NULL;
  ZEROMINI_RETURN_IF_ERROR(
      FromMpi(MPI_Irecv(data, static_cast<int>(bytes), MPI_BYTE, peer, tag,
                        comm_, &request),
              "MPI_Irecv"));
  requests_.push_back(request);
  transfers_.push_back({peer, true});
  ++pending_;
  return absl::OkStatus();
}

absl::StatusOr<MpiWatch::Progress> MpiRequests::Look() {
  MpiWatch::Progress progress;
  if (pending_ > 0) {
    indices_.resize(requests_.size());
    const int code =
        MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(),
                     &progress.came, indices_.data(), MPI_STATUSES_IGNORE);
    ZEROMINI_RETURN_IF_ERROR(FromMpi(code, "MPI_Testsome"));
    // Undefined: nothing in the set was active.
    if (progress.came == MPI_UNDEFINED) progress.came = pending_;
    pending_ -= progress.came;
  }
  progress.done = pending_ == 0;
  if (progress.done) {
    requests_.clear();
    transfers_.clear();
  }
  return progress;
}

std::vector<int> MpiRequests::pending_peers() const {
  std::vector<int> peers;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL) peers.push_back(transfers_[i].peer);
  }
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

}  // namespace zeromini
