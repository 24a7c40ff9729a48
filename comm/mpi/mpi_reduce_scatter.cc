#include "comm/mpi/mpi_reduce_scatter.h"

#include "comm/mpi/wire_copy.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

MpiReduceScatter::MpiReduceScatter(MpiLink& link, const Call& call,
                                   const Segments& segments, const void* in,
                                   void* out)
    : link_(link),
      what_(call.signature),
      segments_(segments),
      in_(static_cast<const char*>(in)),
      out_(static_cast<char*>(out)),
      dtype_(call.dtype()),
      wire_(call.wire()),
      op_(call.reduce_op()),
      element_(SizeOf(dtype_)),
      wire_element_(SizeOf(wire_)),
      depth_(link.depth()) {
  for (int i = 0; i < depth_; ++i) sets_.emplace_back(link.comm());
  for (int segment = 0; segment < link.size(); ++segment) {
    if (segment != link.rank() && link.Reducer(segment) == link.rank()) {
      errands_.push_back(segment);
    }
  }
  const int errands = static_cast<int>(errands_.size());
  scratch_ = link.Scratch(depth_ * (errands + link.hosts().hosts()) + 1);
}

const char* MpiReduceScatter::In(int64_t element) const {
  return in_ + element * element_;
}
char* MpiReduceScatter::Sum(int64_t k, int place) {
  const int64_t errands = static_cast<int64_t>(errands_.size());
  return scratch_ + (k % depth_ * errands + place) * link_.chunk_bytes();
}
// The host's own sum takes the place of what nobody sends it.
char* MpiReduceScatter::Landing(int64_t k, int host) {
  const int64_t errands = static_cast<int64_t>(errands_.size());
  const int64_t place = k % depth_ * link_.hosts().hosts() + host;
  return scratch_ + (depth_ * errands + place) * link_.chunk_bytes();
}
char* MpiReduceScatter::OwnSum(int64_t k) { return Landing(k, link_.host()); }

void MpiReduceScatter::Fold(absl::Span<const WireSource> sources, void* out,
                            int64_t count) {
  if (wire_ != dtype_) {
    ReduceWire(sources, static_cast<float*>(out), count);
    return;
  }
  std::vector<const void*> plain;
  for (const WireSource& source : sources) plain.push_back(source.data);
  ReduceInRankOrder(plain, out, count, dtype_, op_);
}

std::vector<WireSource> MpiReduceScatter::Contributions(int64_t k,
                                                        int segment) {
  std::vector<WireSource> sources;
  const int64_t step = first_step_ + k;
  for (int i = 0; i < link_.window().size(); ++i) {
    if (i == link_.window().index()) {
      sources.push_back({In(segments_.ChunkBegin(segment, k)), dtype_});
    } else {
      sources.push_back({link_.Place(i, segment, step), wire_});
    }
  }
  return sources;
}

absl::Status MpiReduceScatter::Run() {
  first_step_ = link_.steps();
  const int64_t late = depth_ - 1;
  for (int64_t k = 0; k < segments_.steps() + late; ++k) {
    if (k < segments_.steps()) {
      ZEROMINI_RETURN_IF_ERROR(Stage(k));
      ZEROMINI_RETURN_IF_ERROR(AddInHost(k));
    }
    // Late, so that messages travel meanwhile.
    if (k >= late) ZEROMINI_RETURN_IF_ERROR(AddHosts(k - late));
  }
  return absl::OkStatus();
}

absl::Status MpiReduceScatter::Stage(int64_t k) {
  const int64_t step = link_.TakeStep();
  ZEROMINI_RETURN_IF_ERROR(ReceiveSums(k));
  if (link_.window().size() == 1) return absl::OkStatus();
  // Nobody may still be reading what step-depth put there.
  ZEROMINI_RETURN_IF_ERROR(
      link_.AwaitHost(&HostSlot::consumed, step - depth_ + 1, what_));
  for (int segment = 0; segment < link_.size(); ++segment) {
    if (link_.Reducer(segment) == link_.rank()) continue;
    const int64_t count = segments_.ChunkLength(segment, k);
    if (count == 0) continue;
    CopyToWire(In(segments_.ChunkBegin(segment, k)),
               link_.Place(link_.window().index(), segment, step), count,
               dtype_, wire_);
    link_.counter().Add(what_.purpose, {count * wire_element_, 0});
  }
  link_.window().own().staged.store(step + 1, std::memory_order_release);
  return link_.AwaitHost(&HostSlot::staged, step + 1, what_);
}

absl::Status MpiReduceScatter::ReceiveSums(int64_t k) {
  const int64_t count = segments_.ChunkLength(link_.rank(), k);
  if (count == 0) return absl::OkStatus();
  for (int host = 0; host < link_.hosts().hosts(); ++host) {
    if (host == link_.host()) continue;
    ZEROMINI_RETURN_IF_ERROR(sets_[k % depth_].Receive(
        Landing(k, host), count * wire_element_,
        link_.hosts().Courier(host, link_.rank()), link_.PayloadTag()));
  }
  return absl::OkStatus();
}

absl::Status MpiReduceScatter::AddInHost(int64_t k) {
  for (size_t i = 0; i < errands_.size(); ++i) {
    ZEROMINI_RETURN_IF_ERROR(SendSum(k, errands_[i], static_cast<int>(i)));
  }
  const int64_t count = segments_.ChunkLength(link_.rank(), k);
  // A rank that is alone on its host has its own contribution at hand.
  if (count > 0 && (link_.window().size() > 1 || link_.one_host())) {
    const int64_t at = k * segments_.chunk() * element_;
    Fold(Contributions(k, link_.rank()),
         link_.one_host() ? out_ + at : OwnSum(k), count);
  }
  link_.window().own().consumed.store(first_step_ + k + 1,
                                      std::memory_order_release);
  return absl::OkStatus();
}

absl::Status MpiReduceScatter::SendSum(int64_t k, int segment, int place) {
  const int64_t count = segments_.ChunkLength(segment, k);
  if (count == 0) return absl::OkStatus();
  char* sum = Sum(k, place);
  if (link_.window().size() == 1) {
    CopyToWire(In(segments_.ChunkBegin(segment, k)), sum, count, dtype_, wire_);
  } else if (wire_ == dtype_) {
    Fold(Contributions(k, segment), sum, count);
  } else {
    char* exact = scratch_ + depth_ *
                                 (static_cast<int64_t>(errands_.size()) +
                                  link_.hosts().hosts()) *
                                 link_.chunk_bytes();
    Fold(Contributions(k, segment), exact, count);
    CopyToWire(exact, sum, count, dtype_, wire_);
  }
  link_.counter().Add(what_.purpose, {0, count * wire_element_});
  return sets_[k % depth_].Send(sum, count * wire_element_, segment,
                                link_.PayloadTag());
}

absl::Status MpiReduceScatter::AddHosts(int64_t k) {
  if (link_.one_host()) return absl::OkStatus();
  ZEROMINI_RETURN_IF_ERROR(link_.Await(sets_[k % depth_], what_));
  const int64_t count = segments_.ChunkLength(link_.rank(), k);
  if (count == 0) return absl::OkStatus();
  std::vector<WireSource> sums;
  for (int host = 0; host < link_.hosts().hosts(); ++host) {
    if (host != link_.host()) {
      sums.push_back({Landing(k, host), wire_});
    } else if (link_.window().size() == 1) {
      sums.push_back({In(segments_.ChunkBegin(link_.rank(), k)), dtype_});
    } else {
      sums.push_back({OwnSum(k), dtype_});
    }
  }
  Fold(sums, out_ + k * segments_.chunk() * element_, count);
  return absl::OkStatus();
}

}  // namespace zeromini
