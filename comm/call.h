// What one rank asks of its group: compared between the ranks, so that a rank
// that does something else is named instead of corrupting a sum.

#ifndef ZEROMINI_COMM_CALL_H_
#define ZEROMINI_COMM_CALL_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "zeromini/communicator.h"

namespace zeromini {

enum class Collective : int32_t {
  kReduceScatter,
  kAllGather,
  kAllReduce,
  kBroadcast,
  kAllToAllV,
  kBarrier,
  kSplit,
};

// The part of a call that all ranks must agree on. Travels between ranks as
// plain bytes, hence the fixed widths.
struct Signature {
  Collective collective = Collective::kBarrier;
  int32_t dtype = 0;      // A DType.
  int32_t reduce_op = 0;  // A ReduceOp.
  int32_t root = 0;
  int32_t purpose = static_cast<int32_t>(Purpose::kControl);
  int32_t bucket = -1;
  int32_t wire = 0;      // A DType: what fp32 elements travel as.
  int32_t reserved = 0;  // So that no byte that travels is uninitialised.
  // As the caller gave it: a segment's or the whole's. 0 of an all-to-all,
  // whose counts ranks agree on in pairs.
  int64_t count = 0;
  uint64_t plan = 0;     // See Exchange.
  int64_t sequence = 0;  // Exchanges that this rank gave the group before.

  bool operator==(const Signature&) const = default;
};

// What an element of `dtype` takes on the wire: `dtype`, unless that is fp32
// and travels rounded (Exchange::wire).
inline DType WireOf(DType dtype, DType wire) {
  return wire == DType::kFloat32 ? dtype : wire;
}

struct Call {
  Signature signature;
  const void* in = nullptr;
  void* out = nullptr;
  // Of an all-to-all, by rank.
  std::vector<int64_t> send_counts = {};
  std::vector<int64_t> receive_counts = {};

  DType dtype() const { return static_cast<DType>(signature.dtype); }
  DType wire() const {
    return WireOf(dtype(), static_cast<DType>(signature.wire));
  }
  ReduceOp reduce_op() const {
    return static_cast<ReduceOp>(signature.reduce_op);
  }
};

// "reduce-scatter of gradients, bucket 3, 1024 x fp32", and " as bf16" if its
// elements travel as that. No count of an all-to-all; neither plan nor
// sequence.
std::string Describe(const Signature& signature);

// "rank 2", "ranks 1, 2 and 5".
std::string DescribeRanks(absl::Span<const int> ranks);

// InvalidArgument for a dtype, operation or purpose that does not exist, a
// count that is negative or too large, a root outside the group, a missing
// buffer, or a wire format other than fp32 unless it is bf16 for the fp32
// elements of a reduce-scatter or all-gather. Of an all-to-all also for counts
// that are not one per rank.
absl::Status CheckCall(const Call& call, int rank, int size);

// By rank. InvalidArgument that names the first two ranks that disagree, the
// same words on every rank: their calls, or, if those agree, their plans, or
// else which exchange each is at.
absl::Status CheckAgreement(absl::Span<const Signature> by_rank);

struct RankCounts {
  absl::Span<const int64_t> sends;
  absl::Span<const int64_t> receives;
};

// By rank; `what` is the call that they agree on. InvalidArgument, the same
// words on every rank, if it is an all-to-all and a rank sends another number
// than the receiver expects; names the first such pair.
absl::Status CheckCounts(const Signature& what,
                         absl::Span<const RankCounts> by_rank);

}  // namespace zeromini

#endif  // ZEROMINI_COMM_CALL_H_
