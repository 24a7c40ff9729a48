#include "comm/mpi/mpi_all_gather.h"

#include <cstring>

#include "comm/mpi/wire_copy.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

MpiAllGather::MpiAllGather(MpiLink& link, const Call& call,
                           const Segments& segments, const void* in, void* out)
    : link_(link),
      what_(call.signature),
      segments_(segments),
      in_(static_cast<const char*>(in)),
      out_(static_cast<char*>(out)),
      dtype_(call.dtype()),
      wire_(call.wire()),
      element_(SizeOf(dtype_)),
      wire_element_(SizeOf(wire_)),
      depth_(link.depth()) {
  for (int i = 0; i < depth_; ++i) sets_.emplace_back(link.comm());
  for (int segment = 0; segment < link.size(); ++segment) {
    const HostMap& hosts = link.hosts();
    if (hosts.host_of(segment) == link.host()) continue;
    if (hosts.Courier(link.host(), segment) == link.rank()) {
      deliveries_.push_back(segment);
    }
  }
}

absl::Status MpiAllGather::Run() {
  first_step_ = link_.steps();
  const int64_t late = depth_ - 1;
  for (int64_t k = 0; k < segments_.steps() + late; ++k) {
    if (k < segments_.steps()) ZEROMINI_RETURN_IF_ERROR(Stage(k));
    // Late, so that messages travel meanwhile.
    if (k >= late) ZEROMINI_RETURN_IF_ERROR(Finish(k - late));
  }
  return absl::OkStatus();
}

absl::Status MpiAllGather::Stage(int64_t k) {
  const int64_t step = link_.TakeStep();
  const int index = link_.window().index();
  const HostMap& hosts = link_.hosts();
  MpiRequests& set = sets_[k % depth_];
  const int64_t neighbours = link_.window().size() - 1;
  // Nobody may still be reading what step-depth put there.
  ZEROMINI_RETURN_IF_ERROR(
      link_.AwaitHost(&HostSlot::consumed, step - depth_ + 1, what_));
  for (int segment : deliveries_) {
    const int64_t bytes = segments_.ChunkLength(segment, k) * wire_element_;
    if (bytes == 0) continue;
    ZEROMINI_RETURN_IF_ERROR(set.Receive(link_.Place(index, segment, step),
                                         bytes, segment, link_.PayloadTag()));
    link_.counter().Add(what_.purpose, {bytes * neighbours, 0});
  }
  const int64_t count = segments_.ChunkLength(link_.rank(), k);
  if (count > 0) {
    char* place = link_.Place(index, link_.rank(), step);
    CopyToWire(in_ + k * segments_.chunk() * element_, place, count, dtype_,
               wire_);
    const int64_t bytes = count * wire_element_;
    link_.counter().Add(what_.purpose, {bytes * neighbours, 0});
    for (int i = 1; i < hosts.hosts(); ++i) {
      const int other = (link_.host() + i) % hosts.hosts();
      ZEROMINI_RETURN_IF_ERROR(set.Send(place, bytes,
                                        hosts.Courier(other, link_.rank()),
                                        link_.PayloadTag()));
      link_.counter().Add(what_.purpose, {0, bytes});
    }
  }
  link_.window().own().staged.store(step + 1, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status MpiAllGather::Finish(int64_t k) {
  const int64_t step = first_step_ + k;
  HostSlot& own = link_.window().own();
  if (!link_.one_host()) {
    ZEROMINI_RETURN_IF_ERROR(link_.Await(sets_[k % depth_], what_));
    own.delivered.store(step + 1, std::memory_order_release);
    ZEROMINI_RETURN_IF_ERROR(
        link_.AwaitHost(&HostSlot::delivered, step + 1, what_));
  } else {
    ZEROMINI_RETURN_IF_ERROR(
        link_.AwaitHost(&HostSlot::staged, step + 1, what_));
  }
  for (int segment = 0; segment < link_.size(); ++segment) CopyOut(k, segment);
  own.consumed.store(step + 1, std::memory_order_release);
  return absl::OkStatus();
}

void MpiAllGather::CopyOut(int64_t k, int segment) {
  const int64_t count = segments_.ChunkLength(segment, k);
  if (count == 0) return;
  char* to = out_ + segments_.ChunkBegin(segment, k) * element_;
  // Rounded elements come from the window for their owner, too.
  if (segment == link_.rank() && wire_ == dtype_) {
    const char* from = in_ + k * segments_.chunk() * element_;
    if (from != to) std::memcpy(to, from, count * element_);
    return;
  }
  const HostMap& hosts = link_.hosts();
  const int holder = hosts.host_of(segment) == link_.host()
                         ? segment
                         : hosts.Courier(link_.host(), segment);
  CopyFromWire(link_.Place(hosts.index_of(holder), segment, first_step_ + k),
               to, count, dtype_, wire_);
}

}  // namespace zeromini
