#include <algorithm>
#include <cstring>

#include "comm/mpi/mpi_endpoint.h"
#include "comm/rank_order_reduce.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

const char* At(const void* data, int64_t bytes) {
  return static_cast<const char*>(data) + bytes;
}
char* At(void* data, int64_t bytes) { return static_cast<char*>(data) + bytes; }

int64_t CeilDivide(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

struct MpiEndpoint::Segments {
  int64_t length;  // Of a full segment, in elements.
  int64_t total;

  int64_t begin(int r) const { return std::min(total, r * length); }

  // Chunk `step` of segment r: where it begins and how long it is, maybe 0.
  int64_t ChunkBegin(int r, int64_t step, int64_t chunk) const {
    return std::min(begin(r + 1), begin(r) + step * chunk);
  }
  int64_t ChunkLength(int r, int64_t step, int64_t chunk) const {
    return ChunkBegin(r, step + 1, chunk) - ChunkBegin(r, step, chunk);
  }
};

// Depends on what all ranks agree on only. Small enough that the peers' chunks
// stay in a cache while they are added, large enough to hide MPI's start-up.
int64_t MpiEndpoint::ChunkElements(DType dtype) const {
  constexpr int64_t kAllPeers = int64_t{2} << 20;
  constexpr int64_t kLeast = int64_t{64} << 10;
  constexpr int64_t kMost = int64_t{1} << 20;
  const int64_t bytes = std::clamp(kAllPeers / size_, kLeast, kMost);
  return bytes / SizeOf(dtype);
}

char* MpiEndpoint::Scratch(int64_t bytes) {
  if (bytes > scratch_bytes_) {
    scratch_.reset(new char[bytes]);
    scratch_bytes_ = bytes;
  }
  return scratch_.get();
}

absl::Status MpiEndpoint::Run(const Call& call) {
  ZEROMINI_RETURN_IF_ERROR(error());
  ZEROMINI_RETURN_IF_ERROR(Greet(call.signature));
  const int64_t count = call.signature.count;
  if (count == 0) return absl::OkStatus();
  const Segments segments{count, size_ * count};
  switch (call.signature.collective) {
    case Collective::kReduceScatter:
      return ReduceScatter(call, segments);
    case Collective::kAllGather:
      return AllGather(call, segments);
    case Collective::kAllReduce:
      return AllReduce(call);
    case Collective::kBroadcast:
      return Broadcast(call);
    case Collective::kBarrier:
    case Collective::kSplit:
      break;
  }
  return absl::OkStatus();
}

absl::Status MpiEndpoint::Pipeline(int64_t steps, const Signature& what,
                                   const Step& post, const Step& finish) {
  MpiRequests sets[2] = {MpiRequests(comm_), MpiRequests(comm_)};
  absl::Status status;
  for (int64_t k = 0; k < std::min<int64_t>(2, steps) && status.ok(); ++k) {
    status = post(k, sets[k]);
  }
  for (int64_t k = 0; k < steps && status.ok(); ++k) {
    MpiRequests& set = sets[k % 2];
    status = Await(set, what);
    if (status.ok()) status = finish(k, set);
    if (status.ok() && k + 2 < steps) status = post(k + 2, set);
  }
  return status;
}

// `call.in` is the whole, `call.out` this rank's segment.
absl::Status MpiEndpoint::ReduceScatter(const Call& call,
                                        const Segments& segments) {
  const int64_t element = SizeOf(call.dtype());
  const int64_t chunk = ChunkElements(call.dtype());
  char* scratch = Scratch(2 * size_ * chunk * element);
  const auto landing = [&](int64_t step, int peer) {
    return scratch + (step % 2 * size_ + peer) * chunk * element;
  };
  const auto post = [&](int64_t k, MpiRequests& requests) {
    const int64_t own = segments.ChunkLength(rank_, k, chunk);
    for (int i = 1; i < size_; ++i) {
      const int peer = Peer(i);
      const int64_t theirs = segments.ChunkLength(peer, k, chunk);
      if (own > 0) {
        ZEROMINI_RETURN_IF_ERROR(requests.Receive(
            landing(k, peer), own * element, peer, PayloadTag()));
      }
      if (theirs > 0) {
        const int64_t begin = segments.ChunkBegin(peer, k, chunk);
        ZEROMINI_RETURN_IF_ERROR(requests.Send(At(call.in, begin * element),
                                               theirs * element, peer,
                                               PayloadTag()));
      }
    }
    return absl::OkStatus();
  };
  const auto finish = [&](int64_t k, MpiRequests&) {
    const int64_t begin = segments.ChunkBegin(rank_, k, chunk);
    std::vector<const void*> sources;
    for (int peer = 0; peer < size_; ++peer)
      sources.push_back(landing(k, peer));
    sources[rank_] = At(call.in, begin * element);
    ReduceInRankOrder(
        sources, At(call.out, (begin - segments.begin(rank_)) * element),
        segments.ChunkLength(rank_, k, chunk), call.dtype(), call.reduce_op());
    return absl::OkStatus();
  };
  return Pipeline(CeilDivide(segments.length, chunk), call.signature, post,
                  finish);
}

// `call.in` is this rank's segment, `call.out` the whole.
absl::Status MpiEndpoint::AllGather(const Call& call,
                                    const Segments& segments) {
  const int64_t element = SizeOf(call.dtype());
  const int64_t chunk = ChunkElements(call.dtype());
  const int64_t own_begin = segments.begin(rank_);
  const int64_t own_bytes = (segments.begin(rank_ + 1) - own_begin) * element;
  char* own = At(call.out, own_begin * element);
  if (own != call.in && own_bytes > 0) std::memcpy(own, call.in, own_bytes);
  const auto post = [&](int64_t k, MpiRequests& requests) {
    const int64_t sent = segments.ChunkLength(rank_, k, chunk);
    for (int i = 1; i < size_; ++i) {
      const int peer = Peer(i);
      const int64_t theirs = segments.ChunkLength(peer, k, chunk);
      if (theirs > 0) {
        const int64_t begin = segments.ChunkBegin(peer, k, chunk);
        ZEROMINI_RETURN_IF_ERROR(requests.Receive(At(call.out, begin * element),
                                                  theirs * element, peer,
                                                  PayloadTag()));
      }
      if (sent > 0) {
        ZEROMINI_RETURN_IF_ERROR(requests.Send(At(call.in, k * chunk * element),
                                               sent * element, peer,
                                               PayloadTag()));
      }
    }
    return absl::OkStatus();
  };
  const auto finish = [](int64_t, MpiRequests&) { return absl::OkStatus(); };
  return Pipeline(CeilDivide(segments.length, chunk), call.signature, post,
                  finish);
}

absl::Status MpiEndpoint::AllReduce(const Call& call) {
  constexpr int64_t kGatherUpTo = int64_t{64} << 10;
  const int64_t count = call.signature.count;
  if (count * SizeOf(call.dtype()) <= kGatherUpTo) {
    return AllReduceByGathering(call);
  }
  const Segments segments{CeilDivide(count, size_), count};
  void* own = At(call.out, segments.begin(rank_) * SizeOf(call.dtype()));
  ZEROMINI_RETURN_IF_ERROR(
      ReduceScatter(Call{call.signature, call.in, own}, segments));
  return AllGather(Call{call.signature, own, call.out}, segments);
}

absl::Status MpiEndpoint::AllReduceByGathering(const Call& call) {
  const int64_t bytes = call.signature.count * SizeOf(call.dtype());
  char* scratch = Scratch(size_ * bytes);
  std::vector<const void*> sources;
  for (int peer = 0; peer < size_; ++peer) {
    sources.push_back(scratch + peer * bytes);
  }
  sources[rank_] = call.in;
  MpiRequests requests(comm_);
  for (int i = 1; i < size_; ++i) {
    const int peer = Peer(i);
    ZEROMINI_RETURN_IF_ERROR(
        requests.Receive(scratch + peer * bytes, bytes, peer, PayloadTag()));
    ZEROMINI_RETURN_IF_ERROR(requests.Send(call.in, bytes, peer, PayloadTag()));
  }
  ZEROMINI_RETURN_IF_ERROR(Await(requests, call.signature));
  ReduceInRankOrder(sources, call.out, call.signature.count, call.dtype(),
                    call.reduce_op());
  return absl::OkStatus();
}

absl::Status MpiEndpoint::Broadcast(const Call& call) {
  const int64_t chunk = ChunkElements(DType::kByte);
  const int64_t bytes = call.signature.count;
  const int root = call.signature.root;
  const auto post = [&](int64_t k, MpiRequests& requests) -> absl::Status {
    char* data = At(call.out, k * chunk);
    const int64_t length = std::min(chunk, bytes - k * chunk);
    if (rank_ != root) {
      return requests.Receive(data, length, root, PayloadTag());
    }
    for (int i = 1; i < size_; ++i) {
      ZEROMINI_RETURN_IF_ERROR(
          requests.Send(data, length, Peer(i), PayloadTag()));
    }
    return absl::OkStatus();
  };
  const auto finish = [](int64_t, MpiRequests&) { return absl::OkStatus(); };
  return Pipeline(CeilDivide(bytes, chunk), call.signature, post, finish);
}

}  // namespace zeromini
