#include "runtime/device/lease_pool.h"

#include <algorithm>
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

LeasePool::Free::iterator LeasePool::Reusable(int64_t bytes) {
  const auto oldest =
      std::find_if(free_.begin(), free_.end(),
                   [bytes](const Lease& free) { return free.bytes == bytes; });
  if (oldest == free_.end()) return oldest;
  const bool enough = allocated_[bytes] >= limits_.target;
  const bool idle = limits_.overlaps || device_.Passed(oldest->exchanged);
  return enough && idle ? oldest : free_.end();
}

absl::StatusOr<LeasePool::Lease> LeasePool::Take(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  const auto free = Reusable(bytes);
  if (free != free_.end()) {
    Lease lease = std::move(*free);
    free_.erase(free);
    kept_ -= bytes;
    taken_ += bytes;
    return lease;
  }
  ZEROMINI_RETURN_IF_ERROR(MakeRoom(bytes));
  Lease lease;
  ZEROMINI_ASSIGN_OR_RETURN(lease.buffer,
                            device_.Allocate(bytes, limits_.kind));
  lease.bytes = bytes;
  taken_ += bytes;
  ++allocated_[bytes];
  return lease;
}

absl::Status LeasePool::MakeRoom(int64_t bytes) {
  while (limits_.budget > 0 && !free_.empty() &&
         taken_ + kept_ + bytes > limits_.budget) {
    ZEROMINI_RETURN_IF_ERROR(DropOldest());
  }
  return absl::OkStatus();
}

// A gather that nobody waited for may still write to what was given back.
absl::Status LeasePool::DropOldest() {
  for (const Event& event : free_.front().ready) {
    ZEROMINI_RETURN_IF_ERROR(
        device_.Synchronize(event, absl::Now() + limits_.patience));
  }
  kept_ -= free_.front().bytes;
  --allocated_[free_.front().bytes];
  free_.pop_front();
  return absl::OkStatus();
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
  free_.push_back(std::move(lease));
}

}  // namespace zeromini
