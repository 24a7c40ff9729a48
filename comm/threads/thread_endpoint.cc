#include "comm/threads/thread_endpoint.h"

#include <algorithm>
#include <cstring>
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

}  // namespace

absl::Status ThreadEndpoint::Run(const Call& call) {
  absl::Status met = rendezvous_->Meet(rank_, {call});
  if (!met.ok()) return met;
  if (call.signature.count > 0) {
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

void ThreadEndpoint::ReduceScatter(const Call& call) {
  const int64_t count = call.signature.count;
  ReduceRange(call, rank_ * count, (rank_ + 1) * count, call.out);
}

void ThreadEndpoint::AllGather(const Call& call) {
  const int64_t bytes = call.signature.count * SizeOf(call.dtype());
  for (int peer = 0; peer < size(); ++peer) {
    CopyUnlessSame(At(call.out, peer * bytes), PeerCall(peer).in, bytes);
  }
}

void ThreadEndpoint::AllReduce(const Call& call) {
  const int64_t count = call.signature.count;
  const int64_t segment = (count + size() - 1) / size();
  const auto begin = [&](int r) { return std::min(count, r * segment); };
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
