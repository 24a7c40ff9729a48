#include <atomic>
#include <utility>

#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Atomics, since exchanges may be called while another thread reads.
struct Totals {
  std::array<std::atomic<int64_t>, kPurposes> calls = {};
  std::array<std::atomic<int64_t>, kPurposes> bytes = {};
  std::array<std::atomic<int64_t>, kPurposes> padding_bytes = {};
};

class Counting : public CountingCommunicator {
 public:
  Counting(Communicator& group, std::shared_ptr<Totals> totals)
      : group_(group), totals_(std::move(totals)) {}
  Counting(std::unique_ptr<Communicator> group, std::shared_ptr<Totals> totals)
      : owned_(std::move(group)), group_(*owned_), totals_(std::move(totals)) {}

  Traffic traffic() const override {
    Traffic traffic;
    for (int p = 0; p < kPurposes; ++p) {
      traffic[p].calls = totals_->calls[p];
      traffic[p].bytes = totals_->bytes[p];
      traffic[p].padding_bytes = totals_->padding_bytes[p];
    }
    return traffic;
  }

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  const char* backend() const override { return group_.backend(); }
  Stream stream() const override { return group_.stream(); }
  bool overlaps() const override { return group_.overlaps(); }
  absl::Duration timeout() const override { return group_.timeout(); }

  absl::Status ReduceScatter(const void* in, void* out, int64_t count,
                             DType dtype, Exchange exchange) override {
    ZEROMINI_RETURN_IF_ERROR(
        group_.ReduceScatter(in, out, count, dtype, exchange));
    Count(size() * count, dtype, 1, exchange);
    return absl::OkStatus();
  }

  absl::Status AllGather(const void* in, void* out, int64_t count, DType dtype,
                         Exchange exchange) override {
    ZEROMINI_RETURN_IF_ERROR(group_.AllGather(in, out, count, dtype, exchange));
    Count(size() * count, dtype, 1, exchange);
    return absl::OkStatus();
  }

  absl::Status AllReduce(void* data, int64_t count, DType dtype, ReduceOp op,
                         Exchange exchange) override {
    ZEROMINI_RETURN_IF_ERROR(
        group_.AllReduce(data, count, dtype, op, exchange));
    Count(count, dtype, 2, exchange);
    return absl::OkStatus();
  }

  absl::Status Broadcast(void* data, int64_t bytes, int root,
                         Exchange exchange) override {
    ZEROMINI_RETURN_IF_ERROR(group_.Broadcast(data, bytes, root, exchange));
    Count(bytes, DType::kByte, 1, exchange);
    return absl::OkStatus();
  }

  absl::Status Barrier() override { return group_.Barrier(); }

  absl::StatusOr<std::unique_ptr<Communicator>> Split(int color,
                                                      int key) override {
    ZEROMINI_ASSIGN_OR_RETURN(auto child, group_.Split(color, key));
    if (child == nullptr) return nullptr;
    return std::make_unique<Counting>(std::move(child), totals_);
  }

  void Abort(absl::Status why) override { group_.Abort(std::move(why)); }
  absl::Status Close() override { return group_.Close(); }

 private:
  // `passes`: how often a bandwidth-optimal algorithm moves (size-1)/size of
  // the elements.
  void Count(int64_t elements, DType dtype, int passes,
             const Exchange& exchange) {
    const int p = static_cast<int>(exchange.purpose);
    const auto sent = [&](int64_t count) {
      return passes * (size() - 1) * count * SizeOf(dtype) / size();
    };
    ++totals_->calls[p];
    totals_->bytes[p] += sent(elements);
    totals_->padding_bytes[p] += sent(exchange.padding);
  }

  const std::unique_ptr<Communicator> owned_;  // Null if someone else's.
  Communicator& group_;
  const std::shared_ptr<Totals> totals_;
};

}  // namespace

std::unique_ptr<CountingCommunicator> CountingCommunicator::Wrap(
    Communicator& group) {
  return std::make_unique<Counting>(group, std::make_shared<Totals>());
}

}  // namespace zeromini
