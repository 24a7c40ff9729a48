// A group that passes everything on and remembers what each exchange was for.

#ifndef ZEROMINI_TESTS_SUPPORT_RECORDING_GROUP_H_
#define ZEROMINI_TESTS_SUPPORT_RECORDING_GROUP_H_

#include <memory>
#include <utility>
#include <vector>

#include "zeromini/communicator.h"

namespace zeromini {

// `group` must outlive it. Exchanges may come from one thread at a time.
class RecordingGroup : public Communicator {
 public:
  explicit RecordingGroup(Communicator& group) : group_(group) {}

  const std::vector<Exchange>& exchanges() const { return exchanges_; }

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  const char* backend() const override { return group_.backend(); }
  Stream stream() const override { return group_.stream(); }
  absl::Duration timeout() const override { return group_.timeout(); }

  absl::Status ReduceScatter(const void* in, void* out, int64_t count,
                             DType dtype, Exchange exchange) override {
    exchanges_.push_back(exchange);
    return group_.ReduceScatter(in, out, count, dtype, exchange);
  }
  absl::Status AllGather(const void* in, void* out, int64_t count, DType dtype,
                         Exchange exchange) override {
    exchanges_.push_back(exchange);
    return group_.AllGather(in, out, count, dtype, exchange);
  }
  absl::Status AllReduce(void* data, int64_t count, DType dtype, ReduceOp op,
                         Exchange exchange) override {
    exchanges_.push_back(exchange);
    return group_.AllReduce(data, count, dtype, op, exchange);
  }
  absl::Status Broadcast(void* data, int64_t bytes, int root,
                         Exchange exchange) override {
    exchanges_.push_back(exchange);
    return group_.Broadcast(data, bytes, root, exchange);
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
  std::vector<Exchange> exchanges_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RECORDING_GROUP_H_
