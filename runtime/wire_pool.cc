#include "runtime/wire_pool.h"

#include <utility>

#include "zeromini/internal/status_macros.h"

namespace zeromini {

absl::StatusOr<WirePool::Lease> WirePool::Take() {
  std::lock_guard<std::mutex> lock(mutex_);
  if (!free_.empty() && allocated_ >= target_) {
    Lease lease = std::move(free_.front());
    free_.pop_front();
    return lease;
  }
  ZEROMINI_ASSIGN_OR_RETURN(Buffer buffer,
                            device_.Allocate(bytes_, MemoryKind::kBuckets));
  ++allocated_;
  return Lease{std::move(buffer), nullptr};
}

void WirePool::Give(Buffer buffer, Event free_after) {
  std::lock_guard<std::mutex> lock(mutex_);
  free_.push_back({std::move(buffer), std::move(free_after)});
}

}  // namespace zeromini
