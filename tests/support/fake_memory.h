// Memory of a device that the host cannot read: a range of addresses without
// access, and the same bytes at a constant distance, where only the fake's own
// kernels look, and tests that know what they do.

#ifndef ZEROMINI_TESTS_SUPPORT_FAKE_MEMORY_H_
#define ZEROMINI_TESTS_SUPPORT_FAKE_MEMORY_H_

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>

namespace zeromini {

// One per process, for all fake devices and ranks. Thread-safe.
class FakeMemory {
 public:
  static FakeMemory& Get();

  // Zeroed, aligned to 64 bytes; null if there is no room. What is freed is
  // painted over, and not given out again soon. A write behind the end aborts
  // when it is freed.
  std::shared_ptr<void> Allocate(int64_t bytes);

  // Zeroed memory of the host that a copy in a stream's order may use.
  std::shared_ptr<void> AllocatePinned(int64_t bytes);

  // Bytes that were written while nobody had them.
  int64_t Disturbed() const;

  bool Holds(const void* memory) const;  // An address of the device.
  bool Pinned(const void* memory, int64_t bytes) const;

  // Where the bytes of an address of the device are, and back. Null for an
  // address of something else.
  void* Bytes(const void* device) const;
  void* Device(const void* bytes) const;

 private:
  FakeMemory();
  char* Take(int64_t bytes);
  char* TakeFrom(int64_t first, int64_t bytes);
  void Give(char* device, int64_t bytes, int64_t used);
  void Paint(int64_t offset, int64_t bytes);
  int64_t CountUnpainted(int64_t offset, int64_t bytes) const;

  char* device_ = nullptr;  // The range that nobody can touch.
  mutable std::mutex mutex_;
  std::map<int64_t, int64_t> free_;  // Offset and bytes, none adjacent.
  int64_t next_ = 0;                 // Where to look first.
  int64_t used_ = 0;                 // What lies beyond has never been given.
  std::map<const char*, int64_t> pinned_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_FAKE_MEMORY_H_
