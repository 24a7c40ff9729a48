#include "runtime/device/lease_pool.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::Status LeasePool::CheckRoom(int64_t bytes) const {
  std::lock_guard<std::mutex> lock(mutex_);
  if (limits_.budget == 0 || taken_ + bytes <= limits_.budget) {
    return absl::OkStatus();
  }
  return absl::ResourceExhaustedError(absl::StrCat(
      "gathering ", bytes, " bytes of weights beside the ", taken_,
      " that are gathered would exceed gather_budget_bytes, ", limits_.budget));
}

int64_t LeasePool::SizeOf(int64_t bytes) const {
  const BufferClass* const own = SmallestThatHolds(limits_.classes, bytes);
  return own == nullptr ? bytes : own->bytes;
}

bool LeasePool::HasCount(int64_t size) const {
  const BufferClass* const own = SmallestThatHolds(limits_.classes, size);
  const auto allocated = allocated_.find(size);
  const int buffers = allocated == allocated_.end() ? 0 : allocated->second;
  return buffers >= (own == nullptr ? 0 : own->count);
}

bool LeasePool::Stalled(const Lease& lease) const {
  return !limits_.overlaps && !device_.Passed(lease.exchanged);
}

int64_t LeasePool::Excess(int64_t bytes) const {
  if (limits_.budget == 0) return 0;
  int64_t counted = taken_ + kept_ + bytes;
  for (const Lease& free : free_) {
    if (Stalled(free)) counted -= free.bytes;
  }
  return std::max<int64_t>(0, counted - limits_.budget);
}

int64_t LeasePool::Lacking() const {
  int64_t bytes = 0;
  for (const BufferClass& own : limits_.classes) {
    const auto allocated = allocated_.find(own.bytes);
    const int buffers = allocated == allocated_.end() ? 0 : allocated->second;
    bytes += own.bytes * std::max(0, own.count - buffers);
  }
  return bytes;
}

// The smallest of `least` to `most` bytes, of those the longest unused.
LeasePool::Free::const_iterator LeasePool::Reusable(int64_t least,
                                                    int64_t most) const {
  auto best = free_.end();
  for (auto free = free_.begin(); free != free_.end(); ++free) {
    if (free->bytes < least || free->bytes > most) continue;
    if (Stalled(*free)) continue;
    if (best == free_.end() || free->bytes < best->bytes) best = free;
  }
  return best;
}

LeasePool::Choice LeasePool::Choose(int64_t size) const {
  const auto same = Reusable(size, size);
  const bool has_count = HasCount(size);
  if (same != free_.end() && has_count) return {false, same};
  // Beyond its count it would take the place of a class that comes later, and
  // whoever needs that one may not wait until this one is idle.
  const int64_t beside = has_count ? Lacking() : 0;
  if (Excess(size + beside) == 0) return {true, free_.end()};
  const bool exact = limits_.classes.empty();
  constexpr auto kAny = std::numeric_limits<int64_t>::max();
  return {false, exact ? same : Reusable(size, kAny)};
}

LeasePool::Lease LeasePool::Reuse(Free::const_iterator reused) {
  Free one;
  one.splice(one.begin(), free_, reused);
  Lease lease = std::move(one.front());
  kept_ -= lease.bytes;
  taken_ += lease.bytes;
  ++leases_;
  return lease;
}

absl::StatusOr<LeasePool::Lease> LeasePool::Take(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  const int64_t size = SizeOf(bytes);
  const Choice choice = Choose(size);
  if (choice.free != free_.end()) return Reuse(choice.free);
  if (!choice.allocates) {
    const absl::Status room = MakeRoom(size);
    if (!room.ok() && !limits_.exceeded) return room;
    if (!room.ok() && !std::exchange(told_, true)) {
      limits_.exceeded(taken_ + kept_ + size);
    }
  }
  Lease lease;
  ZEROMINI_ASSIGN_OR_RETURN(lease.buffer, device_.Allocate(size, limits_.kind));
  lease.bytes = size;
  taken_ += size;
  ++leases_;
  ++allocated_[size];
  return lease;
}

bool LeasePool::Has(int64_t bytes) const {
  std::lock_guard<std::mutex> lock(mutex_);
  const Choice choice = Choose(SizeOf(bytes));
  return choice.allocates || choice.free != free_.end();
}

// A gather that nobody waited for may still write to what was given back.
bool LeasePool::Idle(const Lease& lease) const {
  return device_.Passed(lease.exchanged) &&
         std::all_of(
             lease.ready.begin(), lease.ready.end(),
             [this](const Event& event) { return device_.Passed(event); });
}

absl::Status LeasePool::MakeRoom(int64_t bytes) {
  const bool blocks = limits_.patience > absl::ZeroDuration();
  int64_t droppable = 0;
  for (const Lease& free : free_) {
    if (blocks || Idle(free)) droppable += free.bytes;
  }
  if (droppable < Excess(bytes)) return Exhausted(bytes);
  while (Excess(bytes) > 0) {
    const auto idle =
        std::find_if(free_.begin(), free_.end(),
                     [this](const Lease& free) { return Idle(free); });
    ZEROMINI_RETURN_IF_ERROR(Drop(idle == free_.end() ? free_.begin() : idle));
  }
  return absl::OkStatus();
}

absl::Status LeasePool::Drop(Free::const_iterator dropped) {
  for (const Event& event : dropped->ready) {
    ZEROMINI_RETURN_IF_ERROR(
        device_.Synchronize(event, absl::Now() + limits_.patience));
  }
  kept_ -= dropped->bytes;
  --allocated_[dropped->bytes];
  free_.erase(dropped);
  return absl::OkStatus();
}

absl::Status LeasePool::Exhausted(int64_t bytes) const {
  return absl::ResourceExhaustedError(absl::StrCat(
      "no room for an exchange buffer of ", bytes, " bytes beside ", taken_,
      " bytes in ", leases_, " taken and ", kept_,
      " bytes in free ones of a budget of ", limits_.budget,
      " bytes (buffer_budget_bytes, or what the plan needs at least); give "
      "gradients in about the reverse order of parameters and leave none out, "
      "or raise buffer_budget_bytes to at least ",
      taken_ + kept_ + bytes));
}

absl::Status LeasePool::WaitFor(Stream stream, const Lease& lease) const {
  for (const Event& event : lease.ready) {
    ZEROMINI_RETURN_IF_ERROR(device_.WaitFor(stream, event));
  }
  return absl::OkStatus();
}

void LeasePool::Give(Lease lease) {
  std::lock_guard<std::mutex> lock(mutex_);
  taken_ -= lease.bytes;
  kept_ += lease.bytes;
  --leases_;
  free_.push_back(std::move(lease));
}

}  // namespace zeromini
