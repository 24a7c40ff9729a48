#include "runtime/device/wire_pool.h"

#include <utility>

#include "absl/time/clock.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::StatusOr<WirePool::Lease> WirePool::Take() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!free_.empty() && allocated_ >= target_ && MayWaitFor(free_.front())) {
    Lease lease = std::move(free_.front().lease);
    free_.pop_front();
    return lease;
  }
  ZEROMINI_ASSIGN_OR_RETURN(Buffer buffer,
                            device_.Allocate(bytes_, MemoryKind::kBuckets));
  ++allocated_;
  return Lease{std::move(buffer), nullptr};
}

void WirePool::Give(Buffer buffer, Event free_after, Event exchanged) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back(
      {{std::move(buffer), std::move(free_after)}, std::move(exchanged)});
}

bool WirePool::MayWaitFor(const Free& oldest) {
  return overlaps_ || device_.Synchronize(oldest.exchanged, absl::Now()).ok();
}

}  // namespace zeromini
