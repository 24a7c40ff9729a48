#include <atomic>
#include <map>
#include <mutex>
#include <utility>

#include "comm/call.h"
#include "zeromini/group.h"
#include "zeromini/internal/sent_bytes.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Adds what `group` has sent since `start`.
void AddLevels(const Communicator& group, const LevelTraffic& start,
               LevelTraffic* sum) {
  const LevelTraffic now = group.level_traffic();
  for (int p = 0; p < kPurposes; ++p) {
    (*sum)[p].inside_host += now[p].inside_host - start[p].inside_host;
    (*sum)[p].between_hosts += now[p].between_hosts - start[p].between_hosts;
  }
}

// Of a group and all that were split from it. Thread-safe, since exchanges may
// be called while another thread reads.
class Totals {
 public:
  void Count(const Exchange& exchange, int64_t bytes, int64_t padding_bytes) {
    const int p = static_cast<int>(exchange.purpose);
    ++calls_[p];
    bytes_[p] += bytes;
    padding_bytes_[p] += padding_bytes;
  }

  void Join(const Communicator* group) {
    std::lock_guard<std::mutex> lock(mutex_);
    groups_[group] = group->level_traffic();
  }
  void Leave(const Communicator* group) {
    std::lock_guard<std::mutex> lock(mutex_);
    AddLevels(*group, groups_[group], &left_);
    groups_.erase(group);
  }

  Traffic Read() const {
    Traffic traffic;
    std::lock_guard<std::mutex> lock(mutex_);
    LevelTraffic levels = left_;
    for (const auto& [group, start] : groups_) {
      AddLevels(*group, start, &levels);
    }
    for (int p = 0; p < kPurposes; ++p) {
      traffic[p] = {calls_[p], bytes_[p], padding_bytes_[p],
                    levels[p].inside_host, levels[p].between_hosts};
    }
    return traffic;
  }

 private:
  std::array<std::atomic<int64_t>, kPurposes> calls_ = {};
  std::array<std::atomic<int64_t>, kPurposes> bytes_ = {};
  std::array<std::atomic<int64_t>, kPurposes> padding_bytes_ = {};

  mutable std::mutex mutex_;
  // With what each had sent when it joined.
  std::map<const Communicator*, LevelTraffic> groups_;
  LevelTraffic left_ = {};  // Of groups that are gone.
};

class Counting : public CountingCommunicator {
 public:
  Counting(Communicator& group, std::shared_ptr<Totals> totals)
      : group_(group), totals_(std::move(totals)) {
    Begin();
  }
  Counting(std::unique_ptr<Communicator> group, std::shared_ptr<Totals> totals)
      : owned_(std::move(group)), group_(*owned_), totals_(std::move(totals)) {
    Begin();
  }
  ~Counting() override { totals_->Leave(&group_); }

  Traffic traffic() const override { return totals_->Read(); }

  int rank() const override { return group_.rank(); }
  int size() const override { return group_.size(); }
  const char* backend() const override { return group_.backend(); }
  Stream stream() const override { return group_.stream(); }
  Communicator& control() override {
    return control_ == nullptr ? *this : *control_;
  }
  bool overlaps() const override { return group_.overlaps(); }
  absl::Duration timeout() const override { return group_.timeout(); }
  std::string in_flight() const override { return group_.in_flight(); }
  LevelTraffic level_traffic() const override { return group_.level_traffic(); }

  absl::Status ReduceScatter(const void* in, void* out, int64_t count,
                             DType dtype, Exchange exchange) override {
    ZEROMINI_RETURN_IF_ERROR(
        group_.ReduceScatter(in, out, count, dtype, exchange));
    Count(size() * count, WireOf(dtype, exchange.wire), 1, exchange);
    return absl::OkStatus();
  }

  absl::Status AllGather(const void* in, void* out, int64_t count, DType dtype,
                         Exchange exchange) override {
    ZEROMINI_RETURN_IF_ERROR(group_.AllGather(in, out, count, dtype, exchange));
    Count(size() * count, WireOf(dtype, exchange.wire), 1, exchange);
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

  absl::Status AllToAllV(const void* in, absl::Span<const int64_t> send_counts,
                         void* out, absl::Span<const int64_t> receive_counts,
                         DType dtype, Exchange exchange) override {
    ZEROMINI_RETURN_IF_ERROR(group_.AllToAllV(in, send_counts, out,
                                              receive_counts, dtype, exchange));
    int64_t sent = -send_counts[rank()];
    for (int64_t count : send_counts) sent += count;
    totals_->Count(exchange, sent * SizeOf(dtype), 0);
    return absl::OkStatus();
  }

  absl::Status Finish(absl::Time deadline) override {
    return group_.Finish(deadline);
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
  void Begin() {
    totals_->Join(&group_);
    Communicator& control = group_.control();
    if (&control == &group_) return;
    control_ = std::make_unique<Counting>(control, totals_);
  }

  // `passes`: how often a bandwidth-optimal algorithm moves (size-1)/size of
  // the elements.
  void Count(int64_t elements, DType dtype, int passes,
             const Exchange& exchange) {
    const auto sent = [&](int64_t count) {
      return SentBytes(count * SizeOf(dtype), passes, size());
    };
    totals_->Count(exchange, sent(elements), sent(exchange.padding));
  }

  const std::unique_ptr<Communicator> owned_;  // Null if someone else's.
  Communicator& group_;
  const std::shared_ptr<Totals> totals_;
  // Of the group's own, which lives as long as the group. Null if that is the
  // group itself.
  std::unique_ptr<Counting> control_;
};

}  // namespace

std::unique_ptr<CountingCommunicator> CountingCommunicator::Wrap(
    Communicator& group) {
  return std::make_unique<Counting>(group, std::make_shared<Totals>());
}

}  // namespace zeromini
