// Devices that a test puts between the optimizer and its own: one that runs
// out of memory when told to, one that sees writes to memory that was freed.

#ifndef ZEROMINI_TESTS_SUPPORT_DEVICE_WRAPPER_H_
#define ZEROMINI_TESTS_SUPPORT_DEVICE_WRAPPER_H_

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "runtime/device/device.h"
#include "support/device_parts.h"

namespace zeromini {

// Passes everything on.
class DeviceWrapper : public Device {
 public:
  explicit DeviceWrapper(absl::Duration timeout)
      : inner_(MakeTestDevice(timeout)) {}

  const KernelTable& kernels() const override { return inner_->kernels(); }
  Stream compute() override { return inner_->compute(); }
  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    return inner_->Allocate(bytes, kind);
  }
  absl::StatusOr<Buffer> AllocateHost(int64_t bytes) override {
    return inner_->AllocateHost(bytes);
  }
  void Keep(Buffer buffer, Stream stream) override {
    inner_->Keep(std::move(buffer), stream);
  }
  absl::Status Launch(Stream stream,
                      std::function<absl::Status(Stream)> task) override {
    return inner_->Launch(stream, std::move(task));
  }
  absl::Status Zero(void* memory, int64_t bytes, Stream stream) override {
    return inner_->Zero(memory, bytes, stream);
  }
  absl::Status Copy(const void* from, void* to, int64_t bytes,
                    Stream stream) override {
    return inner_->Copy(from, to, bytes, stream);
  }
  bool Reads(const void* memory) const override {
    return inner_->Reads(memory);
  }
  void Stamp(Stream stream, std::function<void(int64_t)> at) override {
    inner_->Stamp(stream, std::move(at));
  }
  Event Record(Stream stream) override { return inner_->Record(stream); }
  absl::Status WaitFor(Stream stream, const Event& event) override {
    return inner_->WaitFor(stream, event);
  }
  absl::Status Synchronize(const Event& event, absl::Time deadline) override {
    return inner_->Synchronize(event, deadline);
  }
  bool Passed(const Event& event) const override {
    return inner_->Passed(event);
  }
  MemoryReport Memory() const override { return inner_->Memory(); }
  void Abandon(absl::Status why) override { inner_->Abandon(std::move(why)); }

 private:
  std::unique_ptr<Device> inner_;
};

// Has no room while `full` is true.
class SmallDevice : public DeviceWrapper {
 public:
  SmallDevice(absl::Duration timeout, std::shared_ptr<std::atomic<bool>> full)
      : DeviceWrapper(timeout), full_(std::move(full)) {}

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    if (*full_) return absl::ResourceExhaustedError("the device is full");
    return DeviceWrapper::Allocate(bytes, kind);
  }

 private:
  std::shared_ptr<std::atomic<bool>> full_;
};

// What was freed, painted over and kept.
class Graveyard {
 public:
  void Bury(Buffer buffer, int64_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    std::memset(buffer.get(), kPaint, static_cast<size_t>(bytes));
    graves_.emplace_back(std::move(buffer), bytes);
  }
  size_t graves() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return graves_.size();
  }
  // Bytes that were written after they had been freed.
  int64_t Disturbed() const {
    std::lock_guard<std::mutex> lock(mutex_);
    int64_t disturbed = 0;
    for (const auto& [buffer, bytes] : graves_) {
      const auto* at = static_cast<const unsigned char*>(buffer.get());
      disturbed += bytes - std::count(at, at + bytes, kPaint);
    }
    return disturbed;
  }

 private:
  static constexpr unsigned char kPaint = 0xdd;

  mutable std::mutex mutex_;
  std::vector<std::pair<Buffer, int64_t>> graves_;
};

class BuryingDevice : public DeviceWrapper {
 public:
  BuryingDevice(absl::Duration timeout, std::shared_ptr<Graveyard> graveyard)
      : DeviceWrapper(timeout), graveyard_(std::move(graveyard)) {}

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    auto buffer = DeviceWrapper::Allocate(bytes, kind);
    if (!buffer.ok() || *buffer == nullptr) return buffer;
    return Buffer(buffer->get(),
                  [graveyard = graveyard_, kept = *buffer, bytes](void*) {
                    graveyard->Bury(kept, bytes);
                  });
  }

 private:
  std::shared_ptr<Graveyard> graveyard_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_DEVICE_WRAPPER_H_
