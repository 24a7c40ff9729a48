#include "tests/support/test_device.h"

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/string_view.h"
#include "runtime/group/agreement.h"
#include "tests/support/device_parts.h"
#include "tests/support/fake_communicator.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_kernels.h"
#include "tests/support/fake_memory.h"
#include "tests/support/group_maker.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

template <typename T>
T* ViewOf(T* device) {
  return static_cast<T*>(HostView(device));
}
const void* DeviceOf(const void* seen) {
  return DeviceAddress(const_cast<void*>(seen));
}

bool FakeByEnvironment() {
  const char* const device = std::getenv("ZEROMINI_TEST_DEVICE");
  if (device == nullptr) return false;
  ZEROMINI_CHECK(absl::string_view(device) == "fake");
  return true;
}

std::atomic<bool>& Fake() {
  static std::atomic<bool> fake{FakeByEnvironment()};
  return fake;
}

// An optimizer on the fake device, between a test's pointers and its own.
class SeenOptimizer : public Optimizer {
 public:
  explicit SeenOptimizer(std::unique_ptr<Optimizer> inner)
      : inner_(std::move(inner)) {}

  void* ParamData(int param) override {
    return ViewOf(inner_->ParamData(param));
  }
  float* GradData(int param) override {
    return ViewOf(inner_->GradData(param));
  }
  absl::Status SetParam(int param, const void* data) override {
    return inner_->SetParam(param, DeviceOf(data));
  }
  absl::Status Gather(int layer_set, GatherPass pass) override {
    return inner_->Gather(layer_set, pass);
  }
  absl::Status Release(int layer_set, Stream stream) override {
    return inner_->Release(layer_set, stream);
  }
  absl::Status GradReady(int param, const void* grad, Stream stream) override {
    const void* const device = DeviceOf(grad);
    const bool copies = device == grad && grad != nullptr && Takes(param);
    if (!copies) return inner_->GradReady(param, device, stream);
    if (!stream.is_callers_thread()) {
      return absl::InvalidArgumentError("the gradient is no TestTensor()");
    }
    const PlannedParam& planned = plan().params[param];
    int64_t bytes = SizeOf(planned.dtype);
    for (int64_t extent : planned.shape) bytes *= extent;
    const auto copy = FakeMemory::Get().Allocate(bytes);
    std::memcpy(FakeMemory::Get().Bytes(copy.get()), grad,
                static_cast<size_t>(bytes));
    return inner_->GradReady(param, copy.get(), stream);
  }
  absl::StatusOr<StepReport> Step(const StepOptions& options) override {
    return inner_->Step(options);
  }
  StepReport LastReport() const override { return inner_->LastReport(); }
  absl::Status WaitParam(int param, Stream stream) override {
    return inner_->WaitParam(param, stream);
  }
  absl::Status WaitAll() override { return inner_->WaitAll(); }
  absl::Status BroadcastParams() override { return inner_->BroadcastParams(); }
  absl::StatusOr<ParamState> ConsolidatedState(int param) override {
    return inner_->ConsolidatedState(param);
  }
  absl::Status SetHyperGroup(int group, const HyperGroup& hyper) override {
    return inner_->SetHyperGroup(group, hyper);
  }
  const zeromini::Plan& plan() const override { return inner_->plan(); }
  MemoryReport Memory() const override { return inner_->Memory(); }
  Traffic traffic() const override { return inner_->traffic(); }
  absl::Status Close() override { return inner_->Close(); }

 private:
  bool Takes(int param) const {
    return param >= 0 && param < static_cast<int>(plan().params.size()) &&
           !plan().params[param].frozen;
  }

  const std::unique_ptr<Optimizer> inner_;
};

class HostCaller : public CallerStream {
 public:
  explicit HostCaller(std::unique_ptr<HostStream> queue)
      : queue_(std::move(queue)) {}
  Stream handle() override { return queue_->handle(); }
  HostStream& queue() override { return *queue_; }

 private:
  const std::unique_ptr<HostStream> queue_;
};

class FakeCaller : public CallerStream {
 public:
  explicit FakeCaller(std::unique_ptr<HostStream> queue)
      : stream_(std::move(queue)) {}
  Stream handle() override { return stream_.handle(); }
  HostStream& queue() override { return stream_.queue(); }

 private:
  FakeStream stream_;
};

[[maybe_unused]] const bool g_makes_groups = [] {
  make_ranks = &MakeGroup;
  return true;
}();

}  // namespace

bool OnFakeDevice() { return Fake(); }

ScopedTestDevice::ScopedTestDevice(bool fake)
    : before_(Fake().exchange(fake)) {}
ScopedTestDevice::~ScopedTestDevice() { Fake() = before_; }

void* HostView(void* device) {
  void* const bytes = FakeMemory::Get().Bytes(device);
  return bytes != nullptr ? bytes : device;
}

void* DeviceAddress(void* seen) {
  void* const device = FakeMemory::Get().Device(seen);
  return device != nullptr ? device : seen;
}

int64_t HostWaitsSoFar() { return HostWaits(); }

std::unique_ptr<Device> MakeTestDevice(absl::Duration timeout) {
  if (OnFakeDevice()) return MakeFakeDevice(/*reference=*/false, timeout);
  return MakeHostDevice(CpuKernels(), timeout, nullptr);
}

absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizerOf(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group, OptimizerParts parts) {
  if (!OnFakeDevice()) {
    return CreateOptimizer(options, specs, group, std::move(parts));
  }
  std::vector<ParamSpec> there(specs.begin(), specs.end());
  for (ParamSpec& spec : there) spec.data = DeviceAddress(spec.data);
  if (parts.device == nullptr) {
    parts.device = MakeFakeDevice(options.kernels == KernelChoice::kReference,
                                  StreamPatience(group));
  }
  ZEROMINI_ASSIGN_OR_RETURN(
      auto optimizer, CreateOptimizer(options, there, group, std::move(parts)));
  return std::make_unique<SeenOptimizer>(std::move(optimizer));
}

absl::StatusOr<std::unique_ptr<Optimizer>> MakeOptimizer(
    const OptimizerOptions& options, absl::Span<const ParamSpec> specs,
    Communicator& group) {
  if (!OnFakeDevice()) return Optimizer::Create(options, specs, group);
  return MakeOptimizerOf(options, specs, group, OptimizerParts());
}

HostStream& QueueOf(Stream stream) {
  return OnFakeDevice() ? FakeStream::From(stream)->queue()
                        : *HostStream::From(stream);
}

std::shared_ptr<void> TestTensor(int64_t bytes) {
  if (OnFakeDevice()) {
    auto device = FakeMemory::Get().Allocate(bytes);
    ZEROMINI_CHECK(device != nullptr);
    return std::shared_ptr<void>(device, ViewOf(device.get()));
  }
  return std::shared_ptr<void>(
      std::calloc(1, static_cast<size_t>(bytes > 0 ? bytes : 1)), std::free);
}

absl::StatusOr<std::vector<std::unique_ptr<Communicator>>> MakeGroup(
    int size, const GroupOptions& options) {
  ZEROMINI_ASSIGN_OR_RETURN(auto control, ThreadGroup(size, options));
  if (!OnFakeDevice()) return control;
  ZEROMINI_ASSIGN_OR_RETURN(auto tensors, ThreadGroup(size, options));
  for (int rank = 0; rank < size; ++rank) {
    control[rank] = MakeFakeCommunicator(std::move(control[rank]),
                                         std::move(tensors[rank]));
  }
  return control;
}

std::unique_ptr<Communicator> MakeSelf() {
  return OnFakeDevice() ? MakeFakeCommunicator(Self(), Self()) : Self();
}

std::unique_ptr<CallerStream> CallerStream::Make(
    std::unique_ptr<HostStream> queue) {
  if (queue == nullptr) queue = HostStream::Create("caller");
  if (OnFakeDevice()) return std::make_unique<FakeCaller>(std::move(queue));
  return std::make_unique<HostCaller>(std::move(queue));
}

}  // namespace zeromini
