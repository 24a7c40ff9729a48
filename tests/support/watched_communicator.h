// A communicator that tells a test of each exchange before it passes it on.

#ifndef ZEROMINI_TESTS_SUPPORT_WATCHED_COMMUNICATOR_H_
#define ZEROMINI_TESTS_SUPPORT_WATCHED_COMMUNICATOR_H_

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "zeromini/communicator.h"

namespace zeromini {

class WatchedCommunicator : public Communicator {
 public:
  WatchedCommunicator(Communicator& group,
                      std::function<void(const Exchange&)> tell)
      : group_(group), tell_(std::move(tell)) {
    Communicator& control = group_.control();
    if (&control == &group_) return;
    control_ = std::make_unique<WatchedCommunicator>(control, tell_);
  }

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  const char* backend() const override { return group_.backend(); }
  Stream stream() const override { return group_.stream(); }
  Communicator& control() override {
    return control_ == nullptr ? *this : *control_;
  }
  absl::Duration timeout() const override { return group_.timeout(); }
  std::string in_flight() const override { return group_.in_flight(); }
  LevelTraffic level_traffic() const override { return group_.level_traffic(); }

  absl::Status ReduceScatter(const void* in, void* out, int64_t count,
                             DType dtype, Exchange exchange) override {
    tell_(exchange);
    return group_.ReduceScatter(in, out, count, dtype, exchange);
  }
  absl::Status AllGather(const void* in, void* out, int64_t count, DType dtype,
                         Exchange exchange) override {
    tell_(exchange);
    return group_.AllGather(in, out, count, dtype, exchange);
  }
  absl::Status AllReduce(void* data, int64_t count, DType dtype, ReduceOp op,
                         Exchange exchange) override {
    tell_(exchange);
    return group_.AllReduce(data, count, dtype, op, exchange);
  }
  absl::Status Broadcast(void* data, int64_t bytes, int root,
                         Exchange exchange) override {
    tell_(exchange);
    return group_.Broadcast(data, bytes, root, exchange);
  }
  absl::Status AllToAllV(const void* in, absl::Span<const int64_t> send_counts,
                         void* out, absl::Span<const int64_t> receive_counts,
                         DType dtype, Exchange exchange) override {
    tell_(exchange);
    return group_.AllToAllV(in, send_counts, out, receive_counts, dtype,
                            exchange);
  }
  absl::Status Finish(absl::Time deadline) override {
    return group_.Finish(deadline);
  }
  absl::Status Barrier() override { return group_.Barrier(); }
  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color,
                                                      int key) override {
    return group_.Split(color, key);
  }
  void Abort(absl::Status why) override { group_.Abort(std::move(why)); }
  absl::Status Close() override { return group_.Close(); }

 private:
  Communicator& group_;
  const std::function<void(const Exchange&)> tell_;
  std::unique_ptr<WatchedCommunicator> control_;  // Null: this one itself.
};

// Says whatever timeout a test sets, and so how long the runtime waits for
// streams. Exchanges keep that of the group.
class TimedCommunicator : public WatchedCommunicator {
 public:
  explicit TimedCommunicator(Communicator& group)
      : WatchedCommunicator(group, [](const Exchange&) {}),
        timeout_(group.timeout()) {}

  absl::Duration timeout() const override { return timeout_; }
  void set_timeout(absl::Duration timeout) { timeout_ = timeout; }

 private:
  absl::Duration timeout_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_WATCHED_COMMUNICATOR_H_
