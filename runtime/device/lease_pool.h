// LeasePool: exchange buffers and gathered weights, used in turn.

#ifndef ZEROMINI_RUNTIME_DEVICE_LEASE_POOL_H_
#define ZEROMINI_RUNTIME_DEVICE_LEASE_POOL_H_

#include <array>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <mutex>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "runtime/device/device.h"
#include "shard/exchange_buffers.h"

namespace zeromini {

// Thread-safe. Of buffers that are reused, the longest unused first.
class LeasePool {
 public:
  struct Limits {
    MemoryKind kind = MemoryKind::kBuckets;
    // What is taken and what is kept together never exceed it; 0: no limit.
    int64_t budget = 0;
    // Ascending. A lease has a buffer of the smallest class that holds it. Of a
    // class `count` buffers are allocated before one is reused, in flight or
    // not: what memory is taken shall not depend on timing. With none given
    // back yet one more is allocated, as far as the budget goes, since waiting
    // for it could be waiting for ourselves. Without classes a buffer is as
    // large as its lease, is reused only for that size, and at once.
    std::vector<BufferClass> classes;
    // False where an exchange may need a call of the thread that waits for it:
    // then a buffer whose exchange has not ended is not reused. The budget does
    // not count it: a new one in its place may be all that lets that thread go
    // on to its exchanges.
    bool overlaps = true;
    // How long Take() may block for the streams of a buffer that must be
    // dropped to make room, where none is idle. Zero: it never blocks.
    absl::Duration patience = absl::InfiniteDuration();
    // If given, Take() exceeds the budget rather than fail, and says so the
    // first time: `held` bytes are taken and kept then. Must not call the pool.
    std::function<void(int64_t held)> exceeded = nullptr;
  };

  struct Lease {
    Buffer buffer;
    int64_t bytes = 0;
    // Whoever writes must wait for these first: the last write, the last read.
    std::array<Event, 2> ready;
    // The end of its exchange, which `ready` may follow; null if it has ended.
    Event exchanged;
  };

  LeasePool(Device& device, const Limits& limits)
      : device_(device), limits_(limits) {}

  // ResourceExhausted, with the numbers, if `bytes` more do not fit the budget.
  absl::Status CheckRoom(int64_t bytes) const;

  // In this order: a free buffer of its class, if that has its count; a new
  // one, if the budget has room, beyond the count only beside what other
  // classes lack of theirs; a free one of its class or a larger; a new one
  // at their cost, or in place of free ones that no stream uses any more, or is
  // waited for up to `patience`. Else a new one beyond the budget, if that may
  // be exceeded, or ResourceExhausted, with the numbers and the cure.
  absl::StatusOr<Lease> Take(int64_t bytes);
  // Take() would neither drop a buffer nor fail, nor take what another class
  // lacks.
  bool Has(int64_t bytes) const;
  void Give(Lease lease);
  // `stream` may write to the buffer from here on.
  absl::Status WaitFor(Stream stream, const Lease& lease) const;

 private:
  using Free = std::list<Lease>;

  // All require mutex_.
  struct Choice {
    bool allocates = false;
    Free::const_iterator free;  // Else: the one to reuse, or the end.
  };
  Choice Choose(int64_t size) const;
  Free::const_iterator Reusable(int64_t least, int64_t most) const;
  int64_t SizeOf(int64_t bytes) const;
  bool HasCount(int64_t size) const;
  bool Idle(const Lease& lease) const;
  bool Stalled(const Lease& lease) const;  // See Limits::overlaps.
  // By how much `bytes` more would exceed the budget.
  int64_t Excess(int64_t bytes) const;
  // Bytes of buffers that classes have not allocated yet of their counts.
  int64_t Lacking() const;
  absl::Status MakeRoom(int64_t bytes);
  absl::Status Drop(Free::const_iterator dropped);
  absl::Status Exhausted(int64_t bytes) const;
  Lease Reuse(Free::const_iterator reused);

  Device& device_;
  const Limits limits_;
  mutable std::mutex mutex_;
  int64_t taken_ = 0;
  bool told_ = false;  // Limits::exceeded.
  int64_t kept_ = 0;
  int leases_ = 0;                    // Of which taken_ are the bytes.
  std::map<int64_t, int> allocated_;  // Buffers of each size.
  Free free_;                         // The longest unused first.
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_DEVICE_LEASE_POOL_H_
