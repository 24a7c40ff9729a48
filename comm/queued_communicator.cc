#include "comm/queued_communicator.h"

#include <atomic>
#include <mutex>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "comm/enqueue.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

using Pending = std::shared_ptr<std::atomic<int64_t>>;

// What the stream is running. A rank's exchanges run one at a time.
class Running {
 public:
  void Set(const Signature& signature) {
    std::lock_guard<std::mutex> lock(mutex_);
    signature_ = signature;
  }
  void Clear() {
    std::lock_guard<std::mutex> lock(mutex_);
    signature_.reset();
  }
  std::string Text() const {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!signature_.has_value()) return "in no exchange";
    return absl::StrCat("in ", Describe(*signature_), " (exchange ",
                        signature_->sequence, ")");
  }

 private:
  mutable std::mutex mutex_;
  std::optional<Signature> signature_;
};

// Lives in the closure of one exchange. A closure that a failed stream drops
// unrun would leave the peers waiting, so it breaks the group.
class Ticket {
 public:
  Ticket(std::shared_ptr<Endpoint> endpoint, Call call, Pending pending,
         std::shared_ptr<Running> running)
      : endpoint_(std::move(endpoint)),
        call_(std::move(call)),
        pending_(std::move(pending)),
        running_(std::move(running)) {
    ++*pending_;
  }
  Ticket(const Ticket&) = delete;
  Ticket& operator=(const Ticket&) = delete;

  ~Ticket() {
    if (!started_) {
      endpoint_->Break(absl::AbortedError(absl::StrCat(
          endpoint_->backend(), ": the stream of rank ", endpoint_->rank(),
          " had failed before ", Describe(call_.signature))));
    }
    --*pending_;
  }

  absl::Status Run() {
    started_ = true;
    running_->Set(call_.signature);
    absl::Status status = endpoint_->Run(call_);
    running_->Clear();
    if (!status.ok()) endpoint_->Break(status);
    return status;
  }

 private:
  std::shared_ptr<Endpoint> endpoint_;
  const Call call_;
  Pending pending_;
  std::shared_ptr<Running> running_;
  bool started_ = false;
};

class QueuedCommunicator : public Communicator {
 public:
  QueuedCommunicator(std::shared_ptr<Endpoint> endpoint,
                     std::shared_ptr<HostStream> stream, bool overlaps)
      : endpoint_(std::move(endpoint)),
        stream_(std::move(stream)),
        overlaps_(overlaps && stream_ != nullptr) {}

  ~QueuedCommunicator() override {
    if (*pending_ == 0) return;
    endpoint_->Break(absl::CancelledError(
        absl::StrCat(endpoint_->backend(), ": rank ", endpoint_->rank(),
                     " destroyed its communicator with exchanges pending")));
  }

  int rank() const override { return endpoint_->rank(); }
  int size() const override { return endpoint_->size(); }
  const char* backend() const override { return endpoint_->backend(); }
  Stream stream() const override { return Stream{stream_.get()}; }
  bool overlaps() const override { return overlaps_; }
  absl::Duration timeout() const override { return endpoint_->timeout(); }
  std::string in_flight() const override {
    return absl::StrCat("rank ", rank(), ": ", running_->Text());
  }
  LevelTraffic level_traffic() const override {
    return endpoint_->level_traffic();
  }

  absl::Status ReduceScatter(const void* in, void* out, int64_t count,
                             DType dtype, Exchange exchange) override {
    Call call{Sign(Collective::kReduceScatter, count, dtype, exchange), in,
              out};
    return Submit(call);
  }

  absl::Status AllGather(const void* in, void* out, int64_t count, DType dtype,
                         Exchange exchange) override {
    Call call{Sign(Collective::kAllGather, count, dtype, exchange), in, out};
    return Submit(call);
  }

  absl::Status AllReduce(void* data, int64_t count, DType dtype, ReduceOp op,
                         Exchange exchange) override {
    Call call{Sign(Collective::kAllReduce, count, dtype, exchange), data, data};
    call.signature.reduce_op = static_cast<int32_t>(op);
    return Submit(call);
  }

  absl::Status Broadcast(void* data, int64_t bytes, int root,
                         Exchange exchange) override {
    Call call{Sign(Collective::kBroadcast, bytes, DType::kByte, exchange), data,
              data};
    call.signature.root = root;
    return Submit(call);
  }

  absl::Status AllToAllV(const void* in, absl::Span<const int64_t> send_counts,
                         void* out, absl::Span<const int64_t> receive_counts,
                         DType dtype, Exchange exchange) override {
    Call call{Sign(Collective::kAllToAllV, 0, dtype, exchange), in, out};
    call.send_counts.assign(send_counts.begin(), send_counts.end());
    call.receive_counts.assign(receive_counts.begin(), receive_counts.end());
    return Submit(std::move(call));
  }

  // On the null stream all has run, and each call has returned its error.
  absl::Status Finish(absl::Time deadline) override {
    if (stream_ == nullptr) return absl::OkStatus();
    return stream_->Record()->Wait(deadline);
  }

  absl::Status Barrier() override {
    ZEROMINI_RETURN_IF_ERROR(Usable());
    Call call;
    call.signature.sequence = submitted_++;
    return Wait(Task(call));
  }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color,
                                                      int key) override {
    ZEROMINI_RETURN_IF_ERROR(Usable());
    std::shared_ptr<Endpoint> child;
    ZEROMINI_RETURN_IF_ERROR(Wait([this, color, key, &child]() {
      auto made = endpoint_->Split(color, key);
      if (made.ok()) child = *std::move(made);
      return made.status();
    }));
    if (child == nullptr) return nullptr;
    return MakeQueuedCommunicator(std::move(child), stream_, overlaps_);
  }

  void Abort(absl::Status why) override {
    endpoint_->Break(why);
    if (stream_ != nullptr) stream_->Poison(std::move(why));
  }

  absl::Status Close() override {
    absl::Status status = Barrier();
    if (!closed_.exchange(true) && status.ok()) {
      status = Wait([endpoint = endpoint_] { return endpoint->Free(); });
    }
    return status;
  }

 private:
  static Signature Sign(Collective collective, int64_t count, DType dtype,
                        const Exchange& exchange) {
    Signature signature;
    signature.collective = collective;
    signature.dtype = static_cast<int32_t>(dtype);
    signature.purpose = static_cast<int32_t>(exchange.purpose);
    signature.bucket = exchange.bucket;
    signature.wire = static_cast<int32_t>(exchange.wire);
    signature.count = count;
    signature.plan = exchange.plan;
    return signature;
  }

  absl::Status Usable() const {
    ZEROMINI_RETURN_IF_ERROR(endpoint_->error());
    if (closed_) return absl::FailedPreconditionError("the group is closed");
    return absl::OkStatus();
  }

  absl::Status Submit(Call call) {
    ZEROMINI_RETURN_IF_ERROR(Usable());
    call.signature.sequence = submitted_++;
    absl::Status status = CheckCall(call, rank(), size());
    if (!status.ok()) {
      endpoint_->Break(status);
      return status;
    }
    return EnqueueOn(stream_.get(), Task(std::move(call)));
  }

  // A failure before the task's turn comes breaks the group as well.
  absl::Status Wait(std::function<absl::Status()> task) {
    absl::Status status = RunOnAndWait(stream_.get(), std::move(task));
    if (!status.ok()) endpoint_->Break(status);
    return status;
  }

  std::function<absl::Status()> Task(Call call) {
    auto ticket = std::make_shared<Ticket>(endpoint_, std::move(call), pending_,
                                           running_);
    return [ticket = std::move(ticket)] { return ticket->Run(); };
  }

  const std::shared_ptr<Endpoint> endpoint_;
  const std::shared_ptr<HostStream> stream_;
  const bool overlaps_;
  const Pending pending_ = std::make_shared<std::atomic<int64_t>>(0);
  const std::shared_ptr<Running> running_ = std::make_shared<Running>();
  std::atomic<int64_t> submitted_ = 0;
  std::atomic<bool> closed_ = false;
};

}  // namespace

std::unique_ptr<Communicator> MakeQueuedCommunicator(
    std::shared_ptr<Endpoint> endpoint, std::shared_ptr<HostStream> stream,
    bool overlaps) {
  return std::make_unique<QueuedCommunicator>(std::move(endpoint),
                                              std::move(stream), overlaps);
}

}  // namespace zeromini
