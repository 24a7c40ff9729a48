#include "tests/support/fake_kernels.h"

#include <atomic>
#include <chrono>
#include <mutex>
#include <random>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/delayed_stream.h"
#include "tests/support/fake_memory.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Turns the pointers of one call's arguments into what can be read.
class Pointers {
 public:
  explicit Pointers(const char* kernel) : kernel_(kernel) {}

  template <typename T>
  Pointers& Turn(const char* argument, T** pointer) {
    if (*pointer == nullptr) return *this;
    if (!FakeMemory::Get().Holds(*pointer)) {
      status_.Update(absl::InvalidArgumentError(
          absl::StrCat("kernel ", kernel_, ": `", argument,
                       "` is no pointer to memory of the device")));
      return *this;
    }
    *pointer = static_cast<T*>(FakeMemory::Get().Bytes(*pointer));
    return *this;
  }
  const absl::Status& status() const { return status_; }

 private:
  const char* const kernel_;
  absl::Status status_;
};

void TurnAll(RowSumsArgs& a, Pointers& p) {
  p.Turn("gradient", &a.gradient).Turn("row_sums", &a.row_sums);
}
void TurnAll(AdamMiniArgs& a, Pointers& p) {
  p.Turn("parameter", &a.parameter)
      .Turn("gradient", &a.gradient)
      .Turn("momentum", &a.momentum)
      .Turn("second_moment", &a.second_moment)
      .Turn("block_sums", &a.block_sums)
      .Turn("scalars", &a.scalars);
}
void TurnAll(AdamWArgs& a, Pointers& p) {
  p.Turn("parameter", &a.parameter)
      .Turn("gradient", &a.gradient)
      .Turn("momentum", &a.momentum)
      .Turn("second_moment", &a.second_moment)
      .Turn("scalars", &a.scalars);
}
void TurnAll(SgdArgs& a, Pointers& p) {
  p.Turn("parameter", &a.parameter)
      .Turn("gradient", &a.gradient)
      .Turn("momentum", &a.momentum)
      .Turn("scalars", &a.scalars);
}
// A `void*` has no element to step by, but turns alike.
template <typename T>
void TurnUntyped(const char* argument, T** pointer, Pointers& p) {
  using Byte = std::conditional_t<std::is_const_v<T>, const char, char>;
  Byte* bytes = static_cast<Byte*>(*pointer);
  p.Turn(argument, &bytes);
  *pointer = bytes;
}
void TurnAll(CopyArgs& a, Pointers& p) {
  TurnUntyped("in", &a.in, p);
  TurnUntyped("out", &a.out, p);
  p.Turn("only_if", &a.only_if);
}
void TurnAll(AccumulateArgs& a, Pointers& p) {
  p.Turn("sum", &a.sum).Turn("addend", &a.addend);
}
void TurnAll(ClampArgs& a, Pointers& p) { p.Turn("values", &a.values); }
void TurnAll(WeightCodecArgs& a, Pointers& p) {
  TurnUntyped("weights", &a.weights, p);
  TurnUntyped("master", &a.master, p);
  p.Turn("unpacked", &a.unpacked).Turn("scalars", &a.scalars);
}
void TurnAll(StateCodecArgs& a, Pointers& p) {
  TurnUntyped("packed", &a.packed, p);
  p.Turn("scales", &a.scales)
      .Turn("unpacked", &a.unpacked)
      .Turn("scalars", &a.scalars);
}
void TurnAll(CodedUpdateArgs& a, Pointers& p) {
  TurnAll(a.weights, p);
  TurnAll(a.momentum, p);
  TurnAll(a.second_moment, p);
  p.Turn("gradient", &a.gradient)
      .Turn("block_moments", &a.block_moments)
      .Turn("block_sums", &a.block_sums)
      .Turn("row_moments", &a.row_moments)
      .Turn("row_sums", &a.row_sums)
      .Turn("column_factors", &a.column_factors)
      .Turn("scalars", &a.scalars);
}
void TurnAll(ColumnSums& a, Pointers& p) {
  p.Turn("digits", &a.digits).Turn("tops", &a.tops);
}
void TurnAll(StatisticsArgs& a, Pointers& p) {
  p.Turn("gradient", &a.gradient)
      .Turn("spans", &a.spans)
      .Turn("block_sums", &a.block_sums)
      .Turn("words", &a.words);
  TurnAll(a.columns, p);
}
void TurnAll(ColumnArgs& a, Pointers& p) {
  TurnAll(a.sums, p);
  p.Turn("matrices", &a.matrices)
      .Turn("agreed", &a.agreed)
      .Turn("words", &a.words)
      .Turn("moments", &a.moments)
      .Turn("factors", &a.factors)
      .Turn("scalars", &a.scalars);
}
void TurnAll(FactoredArgs& a, Pointers& p) {
  p.Turn("parameter", &a.parameter)
      .Turn("gradient", &a.gradient)
      .Turn("momentum", &a.momentum)
      .Turn("row_moments", &a.row_moments)
      .Turn("row_sums", &a.row_sums)
      .Turn("column_factors", &a.column_factors)
      .Turn("scalars", &a.scalars);
}
void TurnAll(AddWordsArgs& a, Pointers& p) {
  p.Turn("sum", &a.sum).Turn("addend", &a.addend);
}
void TurnAll(DecideArgs& a, Pointers& p) {
  p.Turn("words", &a.words)
      .Turn("input", &a.input)
      .Turn("hyper", &a.hyper)
      .Turn("params", &a.params)
      .Turn("splits", &a.splits)
      .Turn("steps", &a.steps)
      .Turn("scalars", &a.scalars)
      .Turn("decision", &a.decision);
}

template <typename Args>
using Kernel = absl::Status (*)(const Args&, Stream);

template <typename Args>
absl::Status RunNow(const char*, Kernel<Args> kernel, const Args& args) {
  return kernel(args, Stream{});
}

// Its table of pointers is the device's as well, and filled in its order.
absl::Status RunNow(const char* name, Kernel<DecideArgs> kernel,
                    const DecideArgs& args) {
  std::vector<SplitTarget> splits(args.splits, args.splits + args.num_splits);
  Pointers pointers(name);
  for (SplitTarget& split : splits) {
    pointers.Turn("splits[].block_sum", &split.block_sum);
  }
  ZEROMINI_RETURN_IF_ERROR(pointers.status());
  DecideArgs here = args;
  here.splits = splits.data();
  return kernel(here, Stream{});
}

template <typename Args>
absl::Status Enqueue(const char* name, Kernel<Args> kernel, Args args,
                     Stream stream) {
  FakeStream* const on = FakeStream::From(stream);
  if (on == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("kernel ", name, ": outside of Device::Launch()"));
  }
  Pointers pointers(name);
  TurnAll(args, pointers);
  ZEROMINI_RETURN_IF_ERROR(pointers.status());
  on->queue().Enqueue(
      [name, kernel, args] { return RunNow(name, kernel, args); });
  return absl::OkStatus();
}

// A function of each kernel of the table that `kTable` returns.
template <const KernelTable& (*kTable)()>
KernelTable MakeTable() {
  KernelTable table = {};
  table.name = kTable().name;
#define ZEROMINI_FAKE_KERNEL(field)                       \
  table.field = [](const auto& args, Stream stream) {     \
    return Enqueue(#field, kTable().field, args, stream); \
  }
  ZEROMINI_FAKE_KERNEL(row_sums);
  ZEROMINI_FAKE_KERNEL(adam_mini_step);
  ZEROMINI_FAKE_KERNEL(adam_mini_fused);
  ZEROMINI_FAKE_KERNEL(adamw);
  ZEROMINI_FAKE_KERNEL(copy);
  ZEROMINI_FAKE_KERNEL(accumulate);
  ZEROMINI_FAKE_KERNEL(sgd);
  ZEROMINI_FAKE_KERNEL(clamp);
  ZEROMINI_FAKE_KERNEL(unpack_weights);
  ZEROMINI_FAKE_KERNEL(pack_weights);
  ZEROMINI_FAKE_KERNEL(unpack_state);
  ZEROMINI_FAKE_KERNEL(pack_state);
  ZEROMINI_FAKE_KERNEL(statistics);
  ZEROMINI_FAKE_KERNEL(add_words);
  ZEROMINI_FAKE_KERNEL(decide);
  ZEROMINI_FAKE_KERNEL(column_tops);
  ZEROMINI_FAKE_KERNEL(column_words);
  ZEROMINI_FAKE_KERNEL(column_moments);
  ZEROMINI_FAKE_KERNEL(factored_step);
  ZEROMINI_FAKE_KERNEL(coded_update);
#undef ZEROMINI_FAKE_KERNEL
  return table;
}

// One task of 32 starts late, which costs a test little and still lets every
// pair of streams run in any order that their events allow.
class NowAndThenLate : public StreamWrapper {
 public:
  explicit NowAndThenLate(uint32_t seed) : StreamWrapper("fake"), rng_(seed) {}

  void Enqueue(std::function<absl::Status()> task) override {
    const auto delay = NextDelay();
    if (delay.count() == 0) return StreamWrapper::Enqueue(std::move(task));
    EnqueueLate(delay, std::move(task));
  }

 private:
  std::chrono::microseconds NextDelay() {
    std::lock_guard<std::mutex> lock(mutex_);
    return std::chrono::microseconds(rng_() % 32 == 0 ? rng_() % 200 : 0);
  }

  std::mutex mutex_;
  std::mt19937 rng_;
};

// What a null native means on the fake device. Ranks that are threads share no
// stream: one would wait for another that comes behind it.
FakeStream& DefaultStream() {
  struct Default {
    ~Default() {
      stream->queue().Record()->Wait(absl::InfiniteFuture()).IgnoreError();
    }
    std::unique_ptr<FakeStream> stream = FakeStream::Late();
  };
  static thread_local Default of_this_thread;
  return *of_this_thread.stream;
}

}  // namespace

std::unique_ptr<FakeStream> FakeStream::Late() {
  static std::atomic<uint32_t> seed{1};
  return std::make_unique<FakeStream>(
      std::make_unique<NowAndThenLate>(seed++ * 977u));
}

FakeStream* FakeStream::From(Stream stream) {
  if (stream.is_callers_thread()) return nullptr;
  ZEROMINI_CHECK(stream.device == DeviceKind::kCuda);
  if (stream.native == nullptr) return &DefaultStream();
  return static_cast<FakeStream*>(stream.native);
}

const KernelTable& FakeKernels(bool reference) {
  static const KernelTable cpu = MakeTable<CpuKernels>();
  static const KernelTable plain = MakeTable<ReferenceKernels>();
  return reference ? plain : cpu;
}

int64_t& HostWaits() {
  static thread_local int64_t waits = 0;
  return waits;
}

}  // namespace zeromini
