#include "comm/mpi/mpi_requests.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "comm/mpi/mpi_status.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kAnyPeer = -1;

// Two ranks may share a core, so waiting gives it away: by yielding while an
// answer is likely to be close, then by sleeping.
void GiveWay(Clock::duration idle) {
  constexpr std::chrono::microseconds kYieldFor(200);
  constexpr std::chrono::microseconds kNap(30);
  if (idle < kYieldFor) {
    sched_yield();
  } else {
    std::this_thread::sleep_for(kNap);
  }
}

}  // namespace

MpiRequests::~MpiRequests() {
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] == MPI_REQUEST_NULL) continue;
    if (transfers_[i].receives) MPI_Cancel(&requests_[i]);
    // A collective request may not be freed.
    if (transfers_[i].peer != kAnyPeer) MPI_Request_free(&requests_[i]);
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

void MpiRequests::Adopt(MPI_Request request) {
  requests_.push_back(request);
  transfers_.push_back({kAnyPeer, false});
  ++pending_;
}

absl::Status MpiRequests::Test(int* completed) {
  indices_.resize(requests_.size());
  int count = 0;
  const int code =
      MPI_Testsome(static_cast<int>(requests_.size()), requests_.data(), &count,
                   indices_.data(), MPI_STATUSES_IGNORE);
  // Undefined: nothing in the set was active.
  *completed = count == MPI_UNDEFINED ? pending_ : count;
  pending_ -= *completed;
  return FromMpi(code, "MPI_Testsome");
}

absl::Status MpiRequests::Await(absl::Duration timeout,
                                const FirstError& broken) {
  const auto start = Clock::now();
  auto last_progress = start;
  while (pending_ > 0) {
    if (broken.is_set()) return broken.status();
    int completed = 0;
    ZEROMINI_RETURN_IF_ERROR(Test(&completed));
    const auto now = Clock::now();
    if (completed > 0) {
      last_progress = now;
    } else if (absl::FromChrono(now - start) > timeout) {
      return absl::DeadlineExceededError("");
    } else {
      GiveWay(now - last_progress);
    }
  }
  requests_.clear();
  transfers_.clear();
  return absl::OkStatus();
}

std::vector<int> MpiRequests::pending_peers() const {
  std::vector<int> peers;
  for (size_t i = 0; i < requests_.size(); ++i) {
    if (requests_[i] != MPI_REQUEST_NULL && transfers_[i].peer != kAnyPeer) {
      peers.push_back(transfers_[i].peer);
    }
  }
  std::sort(peers.begin(), peers.end());
  peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
  return peers;
}

}  // namespace zeromini
