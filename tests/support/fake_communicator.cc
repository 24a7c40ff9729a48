#include "tests/support/fake_communicator.h"

#include <atomic>
#include <functional>
#include <mutex>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/support/fake_kernels.h"
#include "tests/support/fake_memory.h"
#include "tests/support/watched_communicator.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// The host's group, which counts the host's waits for other ranks.
class CountedControl : public WatchedCommunicator {
 public:
  explicit CountedControl(Communicator& group)
      : WatchedCommunicator(group, [](const Exchange&) {}) {}

  absl::Status Finish(absl::Time deadline) override {
    ++HostWaits();
    return WatchedCommunicator::Finish(deadline);
  }
  absl::Status Barrier() override {
    ++HostWaits();
    return WatchedCommunicator::Barrier();
  }
};

using Work = std::function<absl::Status(Communicator&)>;

// The tensors' group and its first error. Thread-safe; shared with queued work.
class Tensors {
 public:
  explicit Tensors(std::unique_ptr<Communicator> group)
      : group_(std::move(group)) {}

  Communicator& group() { return *group_; }
  std::atomic<int>& pending() { return pending_; }
  absl::Status error() const {
    std::lock_guard<std::mutex> lock(mutex_);
    return error_;
  }
  void Break(const absl::Status& why) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      error_.Update(why);
    }
    group_->Abort(why);
  }

 private:
  const std::unique_ptr<Communicator> group_;
  mutable std::mutex mutex_;
  absl::Status error_;
  std::atomic<int> pending_{0};  // Exchanges that have not ended.
};

// One exchange in a stream's queue. What a failed stream drops would leave the
// peers waiting, so it breaks the group.
class Ticket {
 public:
  Ticket(std::shared_ptr<Tensors> tensors, Work work)
      : tensors_(std::move(tensors)), work_(std::move(work)) {
    ++tensors_->pending();
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;
  ~Ticket() {
    if (!started_) {
      tensors_->Break(absl::AbortedError(
          absl::StrCat("fake: the stream of rank ", tensors_->group().rank(),
                       " had failed before an exchange")));
    }
    --tensors_->pending();
  }

  absl::Status Run() {
    started_ = true;
    absl::Status status = work_(tensors_->group());
    if (status.ok()) {
      status = tensors_->group().Finish(absl::InfiniteFuture());
    }
    if (!status.ok()) tensors_->Break(status);
    return status;
  }

 private:
  const std::shared_ptr<Tensors> tensors_;
  const Work work_;
  bool started_ = false;
};

absl::Status Turn(const char* name, const void* pointer, void** bytes) {
  *bytes = FakeMemory::Get().Bytes(pointer);
  if (*bytes != nullptr || pointer == nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "exchange: `", name, "` is no pointer to memory of the device"));
}

class FakeCommunicator : public Communicator {
 public:
  FakeCommunicator(std::unique_ptr<Communicator> control,
                   std::unique_ptr<Communicator> tensors,
                   std::shared_ptr<FakeStream> stream)
      : host_(std::move(control)),
        control_(*host_),
        tensors_(std::make_shared<Tensors>(std::move(tensors))),
        stream_(std::move(stream)) {}

  ~FakeCommunicator() override {
    if (tensors_->pending() == 0) return;
    tensors_->Break(absl::CancelledError(
        absl::StrCat("fake: rank ", rank(),
                     " destroyed its communicator with exchanges pending")));
  }

  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  const char* backend() const override { return host_->backend(); }
  Stream stream() const override { return stream_->handle(); }
  Communicator& control() override { return control_; }
  bool overlaps() const override { return true; }
  absl::Duration timeout() const override { return host_->timeout(); }
  std::string in_flight() const override {
    return tensors_->group().in_flight();
  }
  LevelTraffic level_traffic() const override {
    return tensors_->group().level_traffic();
  }

  absl::Status ReduceScatter(const void* in, void* out, int64_t count,
                             DType dtype, Exchange exchange) override {
    return Submit(in, out, [=](const void* from, void* to, Communicator& g) {
      return g.ReduceScatter(from, to, count, dtype, exchange);
    });
  }
  absl::Status AllGather(const void* in, void* out, int64_t count, DType dtype,
                         Exchange exchange) override {
    return Submit(in, out, [=](const void* from, void* to, Communicator& g) {
      return g.AllGather(from, to, count, dtype, exchange);
    });
  }
  absl::Status AllReduce(void* data, int64_t count, DType dtype, ReduceOp op,
                         Exchange exchange) override {
    return Submit(data, data, [=](const void*, void* to, Communicator& g) {
      return g.AllReduce(to, count, dtype, op, exchange);
    });
  }
  absl::Status Broadcast(void* data, int64_t bytes, int root,
                         Exchange exchange) override {
    return Submit(data, data, [=](const void*, void* to, Communicator& g) {
      return g.Broadcast(to, bytes, root, exchange);
    });
  }
  absl::Status AllToAllV(const void* in, absl::Span<const int64_t> send_counts,
                         void* out, absl::Span<const int64_t> receive_counts,
                         DType dtype, Exchange exchange) override {
    const std::vector<int64_t> send(send_counts.begin(), send_counts.end());
    const std::vector<int64_t> receive(receive_counts.begin(),
                                       receive_counts.end());
    return Submit(in, out, [=](const void* from, void* to, Communicator& g) {
      return g.AllToAllV(from, send, to, receive, dtype, exchange);
    });
  }

  absl::Status Finish(absl::Time deadline) override {
    ++HostWaits();
    return stream_->queue().Record()->Wait(deadline);
  }
  absl::Status Barrier() override {
    return RunAndWait([](Communicator& group) { return group.Barrier(); });
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color,
                                                      int key) override {
    ZEROMINI_ASSIGN_OR_RETURN(auto control, host_->Split(color, key));
    std::unique_ptr<Communicator> tensors;
    ZEROMINI_RETURN_IF_ERROR(RunAndWait([&](Communicator& group) {
      auto made = group.Split(color, key);
      if (made.ok()) tensors = *std::move(made);
      return made.status();
    }));
    if (control == nullptr) return nullptr;
    return std::make_unique<FakeCommunicator>(std::move(control),
                                              std::move(tensors), stream_);
  }

  void Abort(absl::Status why) override {
    host_->Abort(why);
    tensors_->Break(why);
    stream_->queue().Poison(std::move(why));
  }

  absl::Status Close() override {
    absl::Status closed =
        RunAndWait([](Communicator& group) { return group.Close(); });
    closed.Update(host_->Close());
    return closed;
  }

 private:
  using Call = std::function<absl::Status(const void*, void*, Communicator&)>;

  absl::Status Submit(const void* in, void* out, Call call) {
    void* from = nullptr;
    void* to = nullptr;
    ZEROMINI_RETURN_IF_ERROR(tensors_->error());
    ZEROMINI_RETURN_IF_ERROR(Turn("in", in, &from));
    ZEROMINI_RETURN_IF_ERROR(Turn("out", out, &to));
    return Enqueue([from, to, call = std::move(call)](Communicator& group) {
      return call(from, to, group);
    });
  }

  absl::Status Enqueue(Work work) {
    ZEROMINI_RETURN_IF_ERROR(tensors_->error());
    stream_->queue().Enqueue(
        [ticket = std::make_shared<Ticket>(tensors_, std::move(work))] {
          return ticket->Run();
        });
    return absl::OkStatus();
  }

  absl::Status RunAndWait(Work work) {
    ++HostWaits();
    ZEROMINI_RETURN_IF_ERROR(Enqueue(std::move(work)));
    return stream_->queue().Record()->Wait(absl::InfiniteFuture());
  }

  const std::unique_ptr<Communicator> host_;
  CountedControl control_;
  const std::shared_ptr<Tensors> tensors_;
  const std::shared_ptr<FakeStream> stream_;
};

}  // namespace

std::unique_ptr<Communicator> MakeFakeCommunicator(
    std::unique_ptr<Communicator> control,
    std::unique_ptr<Communicator> tensors) {
  return std::make_unique<FakeCommunicator>(
      std::move(control), std::move(tensors), FakeStream::Late());
}

}  // namespace zeromini
