#include "comm/threads/thread_endpoint.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <tuple>
#include <vector>

#include "comm/rank_order_reduce.h"

namespace zeromini {
namespace {

const char* At(const void* data, int64_t bytes) {
  return static_cast<const char*>(data) + bytes;
}
char* At(void* data, int64_t bytes) { return static_cast<char*>(data) + bytes; }

void CopyUnlessSame(void* to, const void* from, int64_t bytes) {
  if (to != from && bytes > 0) std::memcpy(to, from, bytes);
}

int64_t Sum(absl::Span<const int64_t> counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0});
}

}  // namespace

absl::Status ThreadEndpoint::Run(const Call& call) {
  absl::Status met = rendezvous_->Meet(rank_, {call});
  if (!met.ok()) return met;
  sent_.Add(call.signature.purpose, {BytesSent(call), 0});
  if (call.signature.collective == Collective::kAllToAllV) {
    AllToAll(call);
  } else if (call.signature.count > 0) {
    switch (call.signature.collective) {
      case Collective::kReduceScatter:
        ReduceScatter(call);
        break;
      case Collective::kAllGather:
        AllGather(call);
        break;
      case Collective::kAllReduce:
        AllReduce(call);
        break;
      case Collective::kBroadcast:
        Broadcast(call);
        break;
      case Collective::kAllToAllV:
      case Collective::kBarrier:
      case Collective::kSplit:
        break;
    }
  }
  rendezvous_->Pause();
  return absl::OkStatus();
}

void ThreadEndpoint::ReduceRange(const Call& call, int64_t begin, int64_t end,
                                 void* out) {
  const int64_t offset = begin * SizeOf(call.dtype());
  std::vector<const void*> sources;
  for (int peer = 0; peer < size(); ++peer) {
    sources.push_back(At(PeerCall(peer).in, offset));
  }
  ReduceInRankOrder(sources, out, end - begin, call.dtype(), call.reduce_op());
}

int64_t ThreadEndpoint::SegmentBegin(int64_t count, int r) const {
  return std::min(count, r * ((count + size() - 1) / size()));
}

int64_t ThreadEndpoint::BytesSent(const Call& call) const {
  const int64_t peers = size() - 1;
  const int64_t count = call.signature.count;
  const int64_t bytes = count * SizeOf(call.wire());
  switch (call.signature.collective) {
    case Collective::kReduceScatter:
    case Collective::kAllGather:
      return peers * bytes;
    case Collective::kAllReduce: {
      const int64_t own =
          (SegmentBegin(count, rank_ + 1) - SegmentBegin(count, rank_)) *
          SizeOf(call.wire());
      return bytes - own + peers * own;
    }
    case Collective::kBroadcast:
      return rank_ == call.signature.root ? peers * bytes : 0;
    case Collective::kAllToAllV:
      return (Sum(call.send_counts) - call.send_counts[rank_]) *
             SizeOf(call.dtype());
    case Collective::kBarrier:
    case Collective::kSplit:
      break;
  }
  return 0;
}

// A block at a time, so that what is rounded stays in the cache.
void ThreadEndpoint::ReduceScatterRounded(const Call& call) {
  constexpr int64_t kBlock = 1024;
  const int64_t count = call.signature.count;
  float* out = static_cast<float*>(call.out);
  std::vector<uint16_t> rounded(size() * kBlock);
  std::vector<WireSource> sources(size());
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t length = std::min(kBlock, count - begin);
    for (int peer = 0; peer < size(); ++peer) {
      const float* source =
          static_cast<const float*>(PeerCall(peer).in) + rank_ * count + begin;
      sources[peer] = {source, DType::kFloat32};
      if (peer == rank_) continue;
      uint16_t* block = rounded.data() + peer * kBlock;
      RoundToWire(source, block, length, call.wire());
      sources[peer] = {block, call.wire()};
    }
    ReduceWire(sources, out + begin, length);
  }
}

void ThreadEndpoint::ReduceScatter(const Call& call) {
  if (call.wire() != call.dtype()) return ReduceScatterRounded(call);
  const int64_t count = call.signature.count;
  ReduceRange(call, rank_ * count, (rank_ + 1) * count, call.out);
}

void ThreadEndpoint::AllGatherRounded(const Call& call) {
  const int64_t count = call.signature.count;
  const auto gather = [&](int peer) {
    RoundThroughWire(static_cast<const float*>(PeerCall(peer).in),
                     static_cast<float*>(call.out) + peer * count, count,
                     call.wire());
  };
  for (int peer = 0; peer < size(); ++peer) {
    if (peer != rank_) gather(peer);
  }
  // Until here a peer may be reading `in`, which may be in `out`.
  rendezvous_->Pause();
  gather(rank_);
}

void ThreadEndpoint::AllGather(const Call& call) {
  if (call.wire() != call.dtype()) return AllGatherRounded(call);
  const int64_t bytes = call.signature.count * SizeOf(call.dtype());
  for (int peer = 0; peer < size(); ++peer) {
    CopyUnlessSame(At(call.out, peer * bytes), PeerCall(peer).in, bytes);
  }
}

void ThreadEndpoint::AllReduce(const Call& call) {
  const int64_t count = call.signature.count;
  const auto begin = [&](int r) { return SegmentBegin(count, r); };
  const int64_t element = SizeOf(call.dtype());
  ReduceRange(call, begin(rank_), begin(rank_ + 1),
              At(call.out, begin(rank_) * element));
  rendezvous_->Pause();
  for (int peer = 0; peer < size(); ++peer) {
    const int64_t offset = begin(peer) * element;
    const int64_t bytes = begin(peer + 1) * element - offset;
    if (peer == rank_) continue;
    CopyUnlessSame(At(call.out, offset), At(PeerCall(peer).in, offset), bytes);
  }
}

void ThreadEndpoint::Broadcast(const Call& call) {
  CopyUnlessSame(call.out, PeerCall(call.signature.root).in,
                 call.signature.count);
}

void ThreadEndpoint::AllToAll(const Call& call) {
  const int64_t element = SizeOf(call.dtype());
  int64_t to = 0;
  for (int peer = 0; peer < size(); ++peer) {
    const Call& theirs = PeerCall(peer);
    const int64_t from =
        Sum(absl::MakeConstSpan(theirs.send_counts).first(rank_));
    const int64_t count = call.receive_counts[peer];
    if (count > 0) {
      std::memcpy(At(call.out, to * element), At(theirs.in, from * element),
                  count * element);
    }
    to += count;
  }
}

absl::StatusOr<std::shared_ptr<Endpoint>> ThreadEndpoint::Split(int color,
                                                                int key) {
  Call call;
  call.signature.collective = Collective::kSplit;
  absl::Status met = rendezvous_->Meet(rank_, {call, color, key});
  if (!met.ok()) return met;
  std::vector<std::pair<int, int>> members;  // (key, rank)
  for (int peer = 0; peer < size(); ++peer) {
    const Rendezvous::Post& post = rendezvous_->post(peer);
    if (post.color == color) members.emplace_back(post.key, peer);
  }
  std::sort(members.begin(), members.end());
  const int leader = members.front().second;
  std::shared_ptr<Rendezvous> group;
  if (color >= 0 && leader == rank_) {
    group = rendezvous_->MakeSplit(leader, static_cast<int>(members.size()));
  }
  rendezvous_->Pause();
  if (color >= 0) group = rendezvous_->TakeSplit(leader);
  rendezvous_->Pause();
  if (group == nullptr) return nullptr;
  const auto self =
      std::find(members.begin(), members.end(), std::make_pair(key, rank_));
  return std::make_shared<ThreadEndpoint>(
      static_cast<int>(self - members.begin()), std::move(group));
}

}  // namespace zeromini
