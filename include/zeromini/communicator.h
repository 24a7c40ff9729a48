// Communicator: moves tensors between the ranks of one group.

#ifndef ZEROMINI_COMMUNICATOR_H_
#define ZEROMINI_COMMUNICATOR_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "absl/types/span.h"
#include "zeromini/stream.h"
#include "zeromini/types.h"

namespace zeromini {

// Says what an exchange is for, and what its elements travel as. All ranks must
// agree on it.
struct Exchange {
  Purpose purpose = Purpose::kControl;
  int bucket = -1;      // Which bucket, or -1.
  int64_t padding = 0;  // Elements, of all size() segments, that are padding.

  // What fp32 elements of a reduce-scatter or all-gather travel as: kFloat32,
  // or kBFloat16 (rounded to nearest even), which halves the bytes.
  //
  // Reduce-scatter: a rank's own contribution is not rounded; those of others
  // are, once per level they cross (inside a host, between hosts), and are
  // added in fp32. Beside fp32's own roundings the error of a sum is at most
  // levels * 2^-8 * sum |g|: bf16 keeps 8 bits.
  // All-gather: every segment of `out` is rounded, this rank's own too.
  DType wire = DType::kFloat32;

  uint64_t plan = 0;  // Hash of the plan it belongs to, or 0.
};

// What a rank has really sent, by level. Zero where a backend cannot tell.
struct LevelBytes {
  int64_t inside_host = 0;
  int64_t between_hosts = 0;
};
using LevelTraffic = std::array<LevelBytes, kPurposes>;  // By int(Purpose).

// Every call that exchanges is collective: all ranks make the same calls in the
// same order. A call enqueues on stream() and returns; it returns an error at
// once if it can tell (bad argument, broken group), and otherwise the error
// appears on the stream. After an error the group is broken: each later call,
// on every rank, reports the first error instead of waiting for a peer that
// will not come. Every wait has a deadline, given when the group was made.
//
// Buffers must stay valid until the stream has passed the call. Sums add the
// ranks' contributions in the given dtype, in rank order, and over several
// hosts in rank order inside each and then in that of the hosts: the same ranks
// on the same hosts get the same bits in every run.
class Communicator {
 public:
  virtual ~Communicator() = default;  // Never communicates.

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual const char* backend() const = 0;  // "threads", "mpi", "self", ...

  // Where this group's exchanges run; null means on the caller's own thread.
  // Groups made by Split() share it, so a rank's exchanges have one order.
  virtual Stream stream() const = 0;

  // The group of the same ranks whose exchanges take host memory, for what
  // ranks agree on besides tensors: this one itself unless its tensors are on
  // another device. Lives as long as this group. Groups made by Split() have
  // theirs.
  virtual Communicator& control() { return *this; }

  // False when exchanges run on a thread of the caller's and thus hide nothing.
  virtual bool overlaps() const { return !stream().is_callers_thread(); }

  // How long a wait inside an exchange lasts before the group breaks.
  virtual absl::Duration timeout() const = 0;

  // The exchange that this rank is in, for a last message: "rank 2: in
  // reduce-scatter of gradients, bucket 3, 1024 x fp32 (exchange 17)", or "rank
  // 2: in no exchange". Any thread, but takes a lock: not in a signal handler.
  virtual std::string in_flight() const = 0;

  // Since the group was made, groups of Split() left out. Any thread.
  virtual LevelTraffic level_traffic() const { return {}; }

  // `in` holds size() segments of `count` elements; the sum of segment rank()
  // over the ranks goes to `out`, which may be that very segment of `in`. The
  // other segments of `in` are not changed. Sends (size-1)*count elements.
  virtual absl::Status ReduceScatter(const void* in, void* out, int64_t count,
                                     DType dtype, Exchange exchange) = 0;

  // `out` holds size() segments of `count`; `in` is this rank's, and may be
  // that very segment of `out`. Sends (size-1)*count elements.
  virtual absl::Status AllGather(const void* in, void* out, int64_t count,
                                 DType dtype, Exchange exchange) = 0;

  // In place. Sends at most 2*(size-1)/size*count elements, rounded up to whole
  // segments; small ones (<= 64 KiB) may send (size-1)*count.
  virtual absl::Status AllReduce(void* data, int64_t count, DType dtype,
                                 ReduceOp op, Exchange exchange) = 0;

  // The root sends at most (size-1)*bytes.
  virtual absl::Status Broadcast(void* data, int64_t bytes, int root,
                                 Exchange exchange) = 0;

  // Each rank to each other one. `in` holds size() segments in rank order,
  // segment r of `send_counts[r]` elements for rank r; `out` likewise, segment
  // r of `receive_counts[r]` elements from rank r. The segments lie one behind
  // the other, in memory that does not overlap. `send_counts[r]` here is
  // `receive_counts[rank()]` on rank r; otherwise InvalidArgument on every
  // rank, with the two ranks and both counts. The counts are copied before it
  // returns. Sends each element once: all counts but its own. Over MPI the
  // counts go ahead, 16 * size() bytes to every other rank.
  virtual absl::Status AllToAllV(const void* in,
                                 absl::Span<const int64_t> send_counts,
                                 void* out,
                                 absl::Span<const int64_t> receive_counts,
                                 DType dtype, Exchange exchange) = 0;

  // Waits, on the calling thread, until what has been enqueued on stream() has
  // run; its first error, or DeadlineExceeded. Local, not collective. What had
  // not run by the deadline may still run, and use its buffers.
  virtual absl::Status Finish(absl::Time deadline) = 0;

  // Returns once every rank has called it. Waits for stream() first.
  virtual absl::Status Barrier() = 0;

  // Ranks of equal `color` form a group, ordered by (key, rank). A negative
  // color makes no group and returns null. Blocks until all ranks have called.
  virtual absl::StatusOr<std::unique_ptr<Communicator>> Split(int color,
                                                              int key) = 0;

  // Breaks the group from any thread; wakes this rank's waits, and those of
  // peers in the same process. `why` becomes the error that later calls report.
  virtual void Abort(absl::Status why) = 0;

  // Collective; frees what the backend duplicated. The group is closed after.
  virtual absl::Status Close() = 0;
};

}  // namespace zeromini

#endif  // ZEROMINI_COMMUNICATOR_H_
