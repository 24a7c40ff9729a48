#include "comm/mpi/mpi_all_to_all.h"

#include <algorithm>
#include <cstring>

#include "comm/mpi/mpi_all_gather.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

std::vector<int64_t> BeginsOf(absl::Span<const int64_t> counts,
                              int64_t element) {
  std::vector<int64_t> begins;
  int64_t begin = 0;
  for (int64_t count : counts) {
    begins.push_back(begin);
    begin += count * element;
  }
  return begins;
}

}  // namespace

MpiAllToAll::MpiAllToAll(MpiLink& link, const Call& call)
    : link_(link),
      call_(call),
      element_(SizeOf(call.dtype())),
      chunk_(link.ChunkElements(call.dtype())),
      depth_(link.depth()),
      send_begin_(BeginsOf(call.send_counts, element_)),
      receive_begin_(BeginsOf(call.receive_counts, element_)) {
  for (int i = 0; i < depth_; ++i) sets_.emplace_back(link.comm());
}

absl::Status MpiAllToAll::Run() {
  ZEROMINI_RETURN_IF_ERROR(GatherCounts());
  if (!link_.one_host()) scratch_ = link_.Scratch(depth_ * link_.size());
  CopyOwn();
  first_step_ = link_.steps();
  const int64_t late = depth_ - 1;
  for (int64_t k = 0; k < steps_ + late; ++k) {
    if (k < steps_) ZEROMINI_RETURN_IF_ERROR(Stage(k));
    // Late, so that messages travel meanwhile.
    if (k >= late) ZEROMINI_RETURN_IF_ERROR(Finish(k - late));
  }
  return absl::OkStatus();
}

absl::Status MpiAllToAll::GatherCounts() {
  const int size = link_.size();
  std::vector<int64_t> mine = call_.send_counts;
  mine.insert(mine.end(), call_.receive_counts.begin(),
              call_.receive_counts.end());
  const int64_t each = 2 * int64_t{size};
  std::vector<int64_t> all(size * each);
  Call gather;
  gather.signature = call_.signature;
  gather.signature.dtype = static_cast<int32_t>(DType::kInt64);
  Segments segments = Segments::Equal(size, each, size * each);
  segments.SetChunk(link_.ChunkElements(DType::kInt64));
  ZEROMINI_RETURN_IF_ERROR(
      MpiAllGather(link_, gather, segments, mine.data(), all.data()).Run());
  std::vector<RankCounts> by_rank;
  int64_t longest = 0;
  for (int r = 0; r < size; ++r) {
    const auto row = absl::MakeConstSpan(all).subspan(r * each, each);
    by_rank.push_back({row.first(size), row.last(size)});
    for (int to = 0; to < size; ++to) {
      if (to != r) longest = std::max(longest, row[to]);
    }
  }
  steps_ = (longest + chunk_ - 1) / chunk_;
  return CheckCounts(call_.signature, by_rank);
}

void MpiAllToAll::CopyOwn() {
  const int own = link_.rank();
  const int64_t bytes = call_.send_counts[own] * element_;
  if (bytes == 0) return;
  std::memcpy(static_cast<char*>(call_.out) + receive_begin_[own],
              static_cast<const char*>(call_.in) + send_begin_[own], bytes);
}

int64_t MpiAllToAll::ChunkBytes(int64_t count, int64_t k) const {
  return std::clamp(count - k * chunk_, int64_t{0}, chunk_) * element_;
}

bool MpiAllToAll::IsNeighbour(int peer) const {
  return link_.hosts().host_of(peer) == link_.host();
}

char* MpiAllToAll::Landing(int64_t k, int peer) {
  return scratch_ + (k % depth_ * link_.size() + peer) * link_.chunk_bytes();
}

absl::Status MpiAllToAll::Receive(int64_t k) {
  for (int peer = 0; peer < link_.size(); ++peer) {
    const int64_t bytes = ChunkBytes(call_.receive_counts[peer], k);
    if (bytes == 0 || IsNeighbour(peer)) continue;
    ZEROMINI_RETURN_IF_ERROR(sets_[k % depth_].Receive(
        Landing(k, peer), bytes, peer, link_.PayloadTag()));
  }
  return absl::OkStatus();
}

absl::Status MpiAllToAll::Stage(int64_t k) {
  const int64_t step = link_.TakeStep();
  ZEROMINI_RETURN_IF_ERROR(Receive(k));
  // Nobody may still be reading what step-depth put there.
  ZEROMINI_RETURN_IF_ERROR(
      link_.AwaitHost(&HostSlot::consumed, step - depth_ + 1, call_.signature));
  // From the next rank on, so that not all send to one.
  for (int i = 1; i < link_.size(); ++i) {
    ZEROMINI_RETURN_IF_ERROR(Send(k, (link_.rank() + i) % link_.size()));
  }
  link_.window().own().staged.store(step + 1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status MpiAllToAll::Send(int64_t k, int peer) {
  const int64_t bytes = ChunkBytes(call_.send_counts[peer], k);
  if (bytes == 0) return absl::OkStatus();
  char* place = link_.Place(link_.window().index(), peer, first_step_ + k);
  std::memcpy(place,
              static_cast<const char*>(call_.in) + send_begin_[peer] +
                  k * chunk_ * element_,
              bytes);
  const bool inside = IsNeighbour(peer);
  link_.counter().Add(call_.signature.purpose,
                      {inside ? bytes : 0, inside ? 0 : bytes});
  if (inside) return absl::OkStatus();
  return sets_[k % depth_].Send(place, bytes, peer, link_.PayloadTag());
}

absl::Status MpiAllToAll::Finish(int64_t k) {
  const int64_t step = first_step_ + k;
  if (!link_.one_host()) {
    ZEROMINI_RETURN_IF_ERROR(link_.Await(sets_[k % depth_], call_.signature));
  }
  ZEROMINI_RETURN_IF_ERROR(
      link_.AwaitHost(&HostSlot::staged, step + 1, call_.signature));
  for (int peer = 0; peer < link_.size(); ++peer) {
    if (peer != link_.rank()) CopyOut(k, peer);
  }
  link_.window().own().consumed.store(step + 1, std::memory_order_release);
  return absl::OkStatus();
}

void MpiAllToAll::CopyOut(int64_t k, int peer) {
  const int64_t bytes = ChunkBytes(call_.receive_counts[peer], k);
  if (bytes == 0) return;
  const char* from = IsNeighbour(peer)
                         ? link_.Place(link_.hosts().index_of(peer),
                                       link_.rank(), first_step_ + k)
                         : Landing(k, peer);
  std::memcpy(static_cast<char*>(call_.out) + receive_begin_[peer] +
                  k * chunk_ * element_,
              from, bytes);
}

}  // namespace zeromini
