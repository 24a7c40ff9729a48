#include "tests/support/fake_device.h"

#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/support/fake_kernels.h"
#include "tests/support/fake_memory.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

class FakeDevice : public Device {
 public:
  FakeDevice(bool reference, absl::Duration timeout)
      : kernels_(FakeKernels(reference)), timeout_(timeout) {}

  const KernelTable& kernels() const override { return kernels_; }
  Stream compute() override { return compute_->handle(); }
  MemoryReport Memory() const override { return ledger_->Report(); }
  void Abandon(absl::Status why) override {
    compute_->queue().Poison(std::move(why));
  }

  absl::StatusOr<Buffer> Allocate(int64_t bytes, MemoryKind kind) override {
    if (bytes == 0) return Buffer();
    return Count(memory_.Allocate(bytes), bytes, kind);
  }
  absl::StatusOr<Buffer> AllocateHost(int64_t bytes) override {
    if (bytes == 0) return Buffer();
    return Count(memory_.AllocatePinned(bytes), bytes, MemoryKind::kTables);
  }

  void Keep(Buffer buffer, Stream stream) override {
    FakeStream* const on = FakeStream::From(stream);
    if (on == nullptr || buffer == nullptr) return;
    on->queue().Enqueue(
        [kept = std::move(buffer)] { return absl::OkStatus(); });
  }

  absl::Status Launch(Stream stream,
                      std::function<absl::Status(Stream)> task) override {
    if (!stream.is_callers_thread()) return task(stream);
    absl::Status called = task(null_->handle());
    absl::Status done = FinishNull();
    return called.ok() ? done : called;
  }

  absl::Status Zero(void* memory, int64_t bytes, Stream stream) override {
    if (bytes == 0) return absl::OkStatus();
    if (!memory_.Holds(memory)) {
      return absl::InvalidArgumentError("zeroes memory of the host");
    }
    return Launch(stream, [at = memory_.Bytes(memory), bytes](Stream on) {
      FakeStream::From(on)->queue().Enqueue([at, bytes] {
        std::memset(at, 0, static_cast<size_t>(bytes));
        return absl::OkStatus();
      });
      return absl::OkStatus();
    });
  }

  absl::Status Copy(const void* from, void* to, int64_t bytes,
                    Stream stream) override {
    if (bytes == 0) return absl::OkStatus();
    const bool late = !stream.is_callers_thread();
    ZEROMINI_ASSIGN_OR_RETURN(const void* in, Side("from", from, bytes, late));
    ZEROMINI_ASSIGN_OR_RETURN(void* out, Side("to", to, bytes, late));
    return Launch(stream, [in, out, bytes](Stream on) {
      FakeStream::From(on)->queue().Enqueue([in, out, bytes] {
        std::memcpy(out, in, static_cast<size_t>(bytes));
        return absl::OkStatus();
      });
      return absl::OkStatus();
    });
  }

  bool Reads(const void* memory) const override {
    return memory_.Holds(memory);
  }

  void Stamp(Stream stream, std::function<void(int64_t)> at) override {
    FakeStream* const on = FakeStream::From(stream);
    if (on == nullptr) return at(absl::GetCurrentTimeNanos());
    on->queue().Enqueue([at = std::move(at)] {
      at(absl::GetCurrentTimeNanos());
      return absl::OkStatus();
    });
  }

  Event Record(Stream stream) override {
    FakeStream* const on = FakeStream::From(stream);
    return on == nullptr ? nullptr : on->queue().Record();
  }

  absl::Status WaitFor(Stream stream, const Event& event) override {
    if (event == nullptr) return absl::OkStatus();
    FakeStream* const on = FakeStream::From(stream);
    if (on == nullptr) return Synchronize(event, absl::Now() + timeout_);
    on->queue().WaitFor(std::static_pointer_cast<HostEvent>(event));
    return absl::OkStatus();
  }

  absl::Status Synchronize(const Event& event, absl::Time deadline) override {
    if (event == nullptr) return absl::OkStatus();
    ++HostWaits();
    return static_cast<HostEvent*>(event.get())->Wait(deadline);
  }

  bool Passed(const Event& event) const override {
    return event == nullptr || static_cast<HostEvent*>(event.get())->done();
  }

 private:
  absl::StatusOr<Buffer> Count(Buffer memory, int64_t bytes, MemoryKind kind) {
    if (memory == nullptr) {
      return absl::ResourceExhaustedError(
          absl::StrCat("no room for ", bytes, " bytes on the fake device"));
    }
    ledger_->Add(kind, bytes);
    void* const at = memory.get();
    return Buffer(at, [memory = std::move(memory), ledger = ledger_, kind,
                       bytes](void*) { ledger->Add(kind, -bytes); });
  }

  // What is on the null stream cannot hang: it waits for no other stream.
  absl::Status FinishNull() {
    ++HostWaits();
    return null_->queue().Record()->Wait(absl::InfiniteFuture());
  }

  // `late`: the host goes on before the copy is done.
  absl::StatusOr<void*> Side(const char* name, const void* memory,
                             int64_t bytes, bool late) const {
    if (memory_.Holds(memory)) return memory_.Bytes(memory);
    if (late && !memory_.Pinned(memory, bytes)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "copy: `", name,
          "` is memory of the host that is not of AllocateHost()"));
    }
    return const_cast<void*>(memory);
  }

  FakeMemory& memory_ = FakeMemory::Get();
  const KernelTable& kernels_;
  const absl::Duration timeout_;
  const std::shared_ptr<MemoryLedger> ledger_ =
      std::make_shared<MemoryLedger>();
  const std::unique_ptr<FakeStream> compute_ = FakeStream::Late();
  const std::unique_ptr<FakeStream> null_ = FakeStream::Late();
};

}  // namespace

std::unique_ptr<Device> MakeFakeDevice(bool reference_kernels,
                                       absl::Duration timeout) {
  return std::make_unique<FakeDevice>(reference_kernels, timeout);
}

}  // namespace zeromini
