#include "tests/support/fake_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iterator>

#include "zeromini/internal/check.h"

namespace zeromini {
namespace {

constexpr int64_t kBytes = int64_t{1} << 29;
constexpr int64_t kAlignment = 64;
// Small enough for a test's memory to stay small, large enough for what was
// freed to stay painted for a while.
constexpr int64_t kTurn = int64_t{1} << 25;
constexpr char kPaint = '\xdd';
constexpr int64_t kEdge = 64;  // Painted behind the end.

int64_t RoundUp(int64_t bytes) {
  return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

}  // namespace

FakeMemory& FakeMemory::Get() {
  // Streams may outlive main(), and whoever ends a test has ended its streams.
  static auto* const memory = [] {
    std::atexit([] { ZEROMINI_CHECK(Get().Disturbed() == 0); });
    return new FakeMemory();
  }();
  return *memory;
}

FakeMemory::FakeMemory() {
  void* const range = mmap(nullptr, static_cast<size_t>(2 * kBytes), PROT_NONE,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  ZEROMINI_CHECK(range != MAP_FAILED);
  device_ = static_cast<char*>(range);
  ZEROMINI_CHECK(mprotect(device_ + kBytes, static_cast<size_t>(kBytes),
                          PROT_READ | PROT_WRITE) == 0);
  free_[0] = kBytes;
}

bool FakeMemory::Holds(const void* memory) const {
  const auto* at = static_cast<const char*>(memory);
  return at >= device_ && at < device_ + kBytes;
}

void* FakeMemory::Bytes(const void* device) const {
  if (!Holds(device)) return nullptr;
  return const_cast<char*>(static_cast<const char*>(device)) + kBytes;
}

void* FakeMemory::Device(const void* bytes) const {
  const auto* at = static_cast<const char*>(bytes);
  const bool inside = at >= device_ + kBytes && at < device_ + 2 * kBytes;
  return inside ? const_cast<char*>(at) - kBytes : nullptr;
}

// Requires mutex_. The first room at or after `first`.
char* FakeMemory::TakeFrom(int64_t first, int64_t bytes) {
  for (auto room = free_.lower_bound(first); room != free_.end(); ++room) {
    const auto [offset, size] = *room;
    if (size < bytes) continue;
    free_.erase(room);
    if (size > bytes) free_[offset + bytes] = size - bytes;
    next_ = offset + bytes < kTurn ? offset + bytes : 0;
    if (offset + bytes > used_) {
      // So that all free bytes before used_ are painted.
      Paint(used_, offset + bytes - used_);
      used_ = offset + bytes;
    }
    return device_ + offset;
  }
  return nullptr;
}

char* FakeMemory::Take(int64_t bytes) {
  std::lock_guard<std::mutex> lock(mutex_);
  char* const taken = TakeFrom(next_, bytes);
  return taken != nullptr ? taken : TakeFrom(0, bytes);
}

void FakeMemory::Paint(int64_t offset, int64_t bytes) {
  std::memset(device_ + kBytes + offset, kPaint, static_cast<size_t>(bytes));
}

int64_t FakeMemory::CountUnpainted(int64_t offset, int64_t bytes) const {
  const char* const first = device_ + kBytes + offset;
  return bytes - std::count(first, first + bytes, kPaint);
}

int64_t FakeMemory::Disturbed() const {
  std::lock_guard<std::mutex> lock(mutex_);
  int64_t disturbed = 0;
  for (const auto& [offset, bytes] : free_) {
    if (offset >= used_) break;
    disturbed += CountUnpainted(offset, std::min(bytes, used_ - offset));
  }
  return disturbed;
}

// `bytes` with the edge, `used` without.
void FakeMemory::Give(char* device, int64_t bytes, int64_t used) {
  const int64_t edge = device - device_ + used;
  // Or something has written behind its end.
  ZEROMINI_CHECK(CountUnpainted(edge, bytes - used) == 0);
  Paint(device - device_, bytes);
  std::lock_guard<std::mutex> lock(mutex_);
  auto room = free_.emplace(device - device_, bytes).first;
  if (const auto next = std::next(room);
      next != free_.end() && room->first + room->second == next->first) {
    room->second += next->second;
    free_.erase(next);
  }
  if (room == free_.begin()) return;
  const auto before = std::prev(room);
  if (before->first + before->second != room->first) return;
  before->second += room->second;
  free_.erase(room);
}

std::shared_ptr<void> FakeMemory::Allocate(int64_t bytes) {
  const int64_t rounded = RoundUp(bytes) + kEdge;
  char* const device = Take(rounded);
  if (device == nullptr) return nullptr;
  Paint(device - device_, rounded);
  std::memset(Bytes(device), 0, static_cast<size_t>(bytes));
  return std::shared_ptr<void>(device, [this, rounded, bytes](void* freed) {
    Give(static_cast<char*>(freed), rounded, bytes);
  });
}

std::shared_ptr<void> FakeMemory::AllocatePinned(int64_t bytes) {
  auto* const memory = static_cast<char*>(
      std::calloc(1, static_cast<size_t>(bytes > 0 ? bytes : 1)));
  ZEROMINI_CHECK(memory != nullptr);
  std::lock_guard<std::mutex> lock(mutex_);
  pinned_[memory] = bytes;
  return std::shared_ptr<void>(memory, [this](void* freed) {
    {
      std::lock_guard<std::mutex> unlisted(mutex_);
      pinned_.erase(static_cast<const char*>(freed));
    }
    std::free(freed);
  });
}

bool FakeMemory::Pinned(const void* memory, int64_t bytes) const {
  const auto* at = static_cast<const char*>(memory);
  std::lock_guard<std::mutex> lock(mutex_);
  auto after = pinned_.upper_bound(at);
  if (after == pinned_.begin()) return false;
  const auto& [first, size] = *std::prev(after);
  return at + bytes <= first + size;
}

}  // namespace zeromini
