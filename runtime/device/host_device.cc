#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/device/device.h"

namespace zeromini {
namespace {

constexpr int64_t kAlignment = 64;  // A cache line, and the widest vector.
constexpr int64_t kHugePage = int64_t{2} << 20;

class HostDevice : public Device {
 public:
  HostDevice(const KernelTable& kernels, absl::Duration timeout,
             std::unique_ptr<HostStream> compute)
      : kernels_(kernels), timeout_(timeout), compute_(std::move(compute)) {}

  const KernelTable& kernels() const override { return kernels_; }
  Stream compute() override { return compute_->handle(); }
  MemoryReport Memory() const override { return ledger_->Report(); }
  void Abandon(absl::Status why) override { compute_->Poison(std::move(why)); }

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    if (bytes == 0) return Buffer();
    const bool huge = bytes >= 4 * kHugePage;
    const int64_t alignment = huge ? kHugePage : kAlignment;
    const int64_t rounded = (bytes + alignment - 1) / alignment * alignment;
    void* memory = std::aligned_alloc(static_cast<size_t>(alignment),
                                      static_cast<size_t>(rounded));
    if (memory == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no room for ", bytes, " bytes on the host"));
    }
    // Streams of the kernels gain from fewer page walks; a refusal costs only
    // that.
    if (huge) madvise(memory, static_cast<size_t>(rounded), MADV_HUGEPAGE);
    std::memset(memory, 0, static_cast<size_t>(rounded));
    ledger_->Add(kind, bytes);
    return Buffer(memory, [ledger = ledger_, kind, bytes](void* freed) {
      std::free(freed);
      ledger->Add(kind, -bytes);
    });
  }

  absl::StatusOr<Buffer> AllocateHost(int64_t bytes) override {
    return Allocate(bytes, MemoryKind::kTables);
  }

  void Keep(Buffer buffer, Stream stream) override {
    HostStream* queue = HostStream::From(stream);
    if (queue == nullptr || buffer == nullptr) return;
    queue->Enqueue([kept = std::move(buffer)] { return absl::OkStatus(); });
  }

  absl::Status Launch(Stream stream,
                      std::function<absl::Status(Stream)> task) override {
    HostStream* queue = HostStream::From(stream);
    if (queue == nullptr) return task(stream);
    queue->Enqueue([stream, task = std::move(task)] { return task(stream); });
    return absl::OkStatus();
  }

  absl::Status Zero(void* memory, int64_t bytes, Stream stream) override {
    return Launch(stream, [memory, bytes](Stream) {
      std::memset(memory, 0, static_cast<size_t>(bytes));
      return absl::OkStatus();
    });
  }

  absl::Status Copy(const void* from, void* to, int64_t bytes,
                    Stream stream) override {
    return Launch(stream, [from, to, bytes](Stream) {
      std::memcpy(to, from, static_cast<size_t>(bytes));
      return absl::OkStatus();
    });
  }

  bool Reads(const void*) const override { return true; }

  void Stamp(Stream stream, std::function<void(int64_t)> at) override {
    Launch(stream, [at = std::move(at)](Stream) {
      at(absl::GetCurrentTimeNanos());
      return absl::OkStatus();
    }).IgnoreError();
  }

  Event Record(Stream stream) override {
    HostStream* queue = HostStream::From(stream);
    return queue == nullptr ? nullptr : queue->Record();
  }

  absl::Status WaitFor(Stream stream, const Event& event) override {
    if (event == nullptr) return absl::OkStatus();
    HostStream* queue = HostStream::From(stream);
    if (queue == nullptr) {
      return Synchronize(event, absl::Now() + timeout_);
    }
    queue->WaitFor(std::static_pointer_cast<HostEvent>(event));
    return absl::OkStatus();
  }

  absl::Status Synchronize(const Event& event, absl::Time deadline) override {
    if (event == nullptr) return absl::OkStatus();
    return static_cast<HostEvent*>(event.get())->Wait(deadline);
  }

  bool Passed(const Event& event) const override {
    return event == nullptr || static_cast<HostEvent*>(event.get())->done();
  }

 private:
  const KernelTable& kernels_;
  const absl::Duration timeout_;
  const std::shared_ptr<MemoryLedger> ledger_ =
      std::make_shared<MemoryLedger>();
  const std::unique_ptr<HostStream> compute_;
};

}  // namespace

std::unique_ptr<Device> MakeHostDevice(const KernelTable& kernels,
                                       absl::Duration timeout,
                                       std::unique_ptr<HostStream> compute) {
  if (compute == nullptr) compute = HostStream::Create("zeromini-compute");
  return std::make_unique<HostDevice>(kernels, timeout, std::move(compute));
}

}  // namespace zeromini
