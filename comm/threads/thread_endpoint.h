// One rank of an in-process group: reads its peers' buffers where they lie.

#ifndef ZEROMINI_COMM_THREADS_THREAD_ENDPOINT_H_
#define ZEROMINI_COMM_THREADS_THREAD_ENDPOINT_H_

#include <memory>
#include <utility>

#include "comm/endpoint.h"
#include "comm/level_counter.h"
#include "comm/threads/rendezvous.h"

namespace zeromini {

class ThreadEndpoint : public Endpoint {
 public:
  ThreadEndpoint(int rank, std::shared_ptr<Rendezvous> rendezvous)
      : rank_(rank), rendezvous_(std::move(rendezvous)) {}

  int rank() const override { return rank_; }
  int size() const override { return rendezvous_->size(); }
  const char* backend() const override { return "threads"; }
  absl::Duration timeout() const override { return rendezvous_->timeout(); }

  LevelTraffic level_traffic() const override { return sent_.Read(); }

  absl::Status Run(const Call& call) override;
  absl::StatusOr<std::shared_ptr<Endpoint>> Split(int color, int key) override;
  absl::Status Free() override { return absl::OkStatus(); }
  void Break(const absl::Status& why) override { rendezvous_->Break(why); }
  absl::Status error() const override { return rendezvous_->error(); }

 private:
  const Call& PeerCall(int peer) const { return rendezvous_->post(peer).call; }

  void ReduceScatter(const Call& call);
  void ReduceScatterRounded(const Call& call);
  void AllGather(const Call& call);
  void AllGatherRounded(const Call& call);
  void AllReduce(const Call& call);
  void Broadcast(const Call& call);
  void AllToAll(const Call& call);

  // Elements [begin, end) of every rank's `in`, reduced into our `out`.
  void ReduceRange(const Call& call, int64_t begin, int64_t end, void* out);

  // Of the segments that an all-reduce of `count` elements works in.
  int64_t SegmentBegin(int64_t count, int r) const;

  // What messages would carry to the peers. All of them are in this host.
  int64_t BytesSent(const Call& call) const;

  const int rank_;
  const std::shared_ptr<Rendezvous> rendezvous_;
  LevelCounter sent_;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMM_THREADS_THREAD_ENDPOINT_H_
