#include <cstring>

#include "comm/first_error.h"
#include "comm/queued_communicator.h"
#include "comm/rank_order_reduce.h"
#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

class SelfEndpoint : public Endpoint {
 public:
  int rank() const override { return 0; }
  int size() const override { return 1; }
  const char* backend() const override { return "self"; }
  absl::Duration timeout() const override { return absl::InfiniteDuration(); }

  absl::Status Run(const Call& call) override {
    if (call.signature.collective == Collective::kAllToAllV) {
      return AllToAll(call);
    }
    const int64_t bytes = call.signature.count * SizeOf(call.dtype());
    if (call.signature.collective == Collective::kAllGather &&
        call.dtype() == DType::kFloat32) {
      RoundThroughWire(static_cast<const float*>(call.in),
                       static_cast<float*>(call.out), call.signature.count,
                       call.wire());
    } else if (call.in != call.out && bytes > 0) {
      std::memcpy(call.out, call.in, bytes);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::shared_ptr<Endpoint>> Split(int color, int) override {
    if (color < 0) return nullptr;
    return std::make_shared<SelfEndpoint>();
  }

  absl::Status Free() override { return absl::OkStatus(); }

  void Break(const absl::Status& why) override { error_.Set(why); }
  absl::Status error() const override { return error_.status(); }

 private:
  static absl::Status AllToAll(const Call& call) {
    ZEROMINI_RETURN_IF_ERROR(CheckCounts(
        call.signature, {RankCounts{call.send_counts, call.receive_counts}}));
    const int64_t bytes = call.send_counts[0] * SizeOf(call.dtype());
    if (bytes > 0) std::memcpy(call.out, call.in, bytes);
    return absl::OkStatus();
  }

  FirstError error_;
};

}  // namespace

std::unique_ptr<Communicator> Self() {
  return MakeQueuedCommunicator(std::make_shared<SelfEndpoint>(), nullptr);
}

}  // namespace zeromini
