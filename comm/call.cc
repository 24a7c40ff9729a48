#include "comm/call.h"

#include <functional>
#include <limits>
#include <numeric>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

const char* Name(Collective collective) {
  switch (collective) {
    case Collective::kReduceScatter:
      return "reduce-scatter";
    case Collective::kAllGather:
      return "all-gather";
    case Collective::kAllReduce:
      return "all-reduce";
    case Collective::kBroadcast:
      return "broadcast";
    case Collective::kAllToAllV:
      return "all-to-all";
    case Collective::kBarrier:
      return "barrier";
    case Collective::kSplit:
      return "split";
  }
  return "unknown collective";
}

const char* Name(ReduceOp op) {
  switch (op) {
    case ReduceOp::kSum:
      return "sum";
    case ReduceOp::kMax:
      return "max";
    case ReduceOp::kMin:
      return "min";
  }
  return "unknown operation";
}

// An enum may hold any number: it may come from C.
bool IsOneOf(int32_t value, int32_t last) {
  return value >= 0 && value <= last;
}

absl::Status CheckFormats(const Signature& signature, const std::string& who) {
  const auto unknown = [&](const char* what, int32_t value) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "there is no ", what, " ", value));
  };
  if (!IsOneOf(signature.dtype, static_cast<int32_t>(DType::kByte))) {
    return unknown("dtype", signature.dtype);
  }
  if (!IsOneOf(signature.reduce_op, static_cast<int32_t>(ReduceOp::kMin))) {
    return unknown("reduce operation", signature.reduce_op);
  }
  if (!IsOneOf(signature.purpose, kPurposes - 1)) {
    return unknown("purpose", signature.purpose);
  }
  return absl::OkStatus();
}

absl::Status CheckCount(const Signature& signature, int size,
                        const std::string& who) {
  if (signature.count < 0) {
    return absl::InvalidArgumentError(absl::StrCat(who, "negative count"));
  }
  const int64_t element = SizeOf(static_cast<DType>(signature.dtype));
  if (signature.count > std::numeric_limits<int64_t>::max() / size / element) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "more bytes than 63 bits can count"));
  }
  return absl::OkStatus();
}

// Of one direction of an all-to-all.
absl::Status CheckSegments(const char* direction,
                           absl::Span<const int64_t> counts, const void* buffer,
                           int64_t most, const std::string& who) {
  int64_t total = 0;
  for (size_t r = 0; r < counts.size(); ++r) {
    if (counts[r] < 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          who, direction, " count of rank ", r, " is ", counts[r]));
    }
    if (counts[r] > most - total) {
      return absl::InvalidArgumentError(
          absl::StrCat(who, "more bytes than 63 bits can count"));
    }
    total += counts[r];
  }
  if (total == 0 || buffer != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat(who, "null ", direction, " buffer"));
}

absl::Status CheckAllToAll(const Call& call, size_t size,
                           const std::string& who) {
  if (call.send_counts.size() != size || call.receive_counts.size() != size) {
    return absl::InvalidArgumentError(absl::StrCat(
        who, call.send_counts.size(), " send counts and ",
        call.receive_counts.size(), " receive counts in a group of ", size));
  }
  const int64_t most =
      std::numeric_limits<int64_t>::max() / SizeOf(call.dtype());
  ZEROMINI_RETURN_IF_ERROR(
      CheckSegments("send", call.send_counts, call.in, most, who));
  ZEROMINI_RETURN_IF_ERROR(
      CheckSegments("receive", call.receive_counts, call.out, most, who));
  const auto bytes = [&call](absl::Span<const int64_t> counts) {
    return std::accumulate(counts.begin(), counts.end(), int64_t{0}) *
           SizeOf(call.dtype());
  };
  const auto* in = static_cast<const char*>(call.in);
  const auto* out = static_cast<const char*>(call.out);
  const std::less<> before;
  const bool apart = bytes(call.send_counts) == 0 ||
                     bytes(call.receive_counts) == 0 ||
                     !before(in, out + bytes(call.receive_counts)) ||
                     !before(out, in + bytes(call.send_counts));
  if (apart) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      who, "the buffers overlap: what is received needs memory of its own"));
}

absl::Status CheckWire(const Call& call, const std::string& who) {
  const DType wire = static_cast<DType>(call.signature.wire);
  if (wire == DType::kFloat32) return absl::OkStatus();
  if (wire != DType::kBFloat16) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "the wire format must be fp32 or bf16"));
  }
  const Collective collective = call.signature.collective;
  const bool moves_segments = collective == Collective::kReduceScatter ||
                              collective == Collective::kAllGather;
  if (call.dtype() != DType::kFloat32 || !moves_segments) {
    return absl::InvalidArgumentError(
        absl::StrCat(who,
                     "only the fp32 elements of a reduce-scatter or all-gather "
                     "can travel as bf16"));
  }
  return absl::OkStatus();
}

std::string DescribePlans(const Signature& root, const Signature& other,
                          size_t rank) {
  return absl::StrFormat("rank 0 has plan %016x, rank %d has plan %016x",
                         root.plan, rank, other.plan);
}

// Why two signatures that are not equal are not.
std::string DescribeDifference(const Signature& root, const Signature& other,
                               size_t rank) {
  Signature same_call = other;
  same_call.plan = root.plan;
  same_call.sequence = root.sequence;
  const bool plans_differ = root.plan != other.plan;
  if (same_call != root) {
    return absl::StrCat(
        "ranks make different calls: rank 0 calls ", Describe(root), "; rank ",
        rank, " calls ", Describe(other),
        plans_differ ? absl::StrCat(" (", DescribePlans(root, other, rank), ")")
                     : "");
  }
  if (plans_differ) {
    return absl::StrCat(
        "ranks have different plans: ", DescribePlans(root, other, rank),
        ", in ", Describe(root));
  }
  return absl::StrCat(
      "ranks are at different exchanges: rank 0 is at exchange ", root.sequence,
      ", rank ", rank, " at exchange ", other.sequence, ", in ",
      Describe(root));
}

}  // namespace

const char* PurposeName(Purpose purpose) {
  switch (purpose) {
    case Purpose::kGradients:
      return "gradients";
    case Purpose::kWeights:
      return "weights";
    case Purpose::kScalars:
      return "scalars";
    case Purpose::kState:
      return "state";
    case Purpose::kControl:
      return "control";
  }
  return "unknown purpose";
}

std::string Describe(const Signature& signature) {
  std::string text = Name(signature.collective);
  if (signature.collective == Collective::kBarrier ||
      signature.collective == Collective::kSplit) {
    return text;
  }
  absl::StrAppend(&text, " of ",
                  PurposeName(static_cast<Purpose>(signature.purpose)));
  if (signature.bucket >= 0) {
    absl::StrAppend(&text, ", bucket ", signature.bucket);
  }
  absl::StrAppend(&text, ", ");
  if (signature.collective != Collective::kAllToAllV) {
    absl::StrAppend(&text, signature.count, " x ");
  }
  absl::StrAppend(&text, DTypeName(static_cast<DType>(signature.dtype)));
  const DType wire = static_cast<DType>(signature.wire);
  if (wire != DType::kFloat32) absl::StrAppend(&text, " as ", DTypeName(wire));
  if (signature.collective == Collective::kAllReduce) {
    absl::StrAppend(&text, ", ",
                    Name(static_cast<ReduceOp>(signature.reduce_op)));
  }
  if (signature.collective == Collective::kBroadcast) {
    absl::StrAppend(&text, ", from rank ", signature.root);
  }
  return text;
}

std::string DescribeRanks(absl::Span<const int> ranks) {
  std::string text = ranks.size() == 1 ? "rank " : "ranks ";
  for (size_t i = 0; i < ranks.size(); ++i) {
    const bool last = i + 1 == ranks.size();
    absl::StrAppend(&text, i == 0 ? "" : (last ? " and " : ", "), ranks[i]);
  }
  return text;
}

absl::Status CheckCall(const Call& call, int rank, int size) {
  const Signature& signature = call.signature;
  const std::string who =
      absl::StrCat("rank ", rank, ", ", Describe(signature), ": ");
  ZEROMINI_RETURN_IF_ERROR(CheckFormats(signature, who));
  ZEROMINI_RETURN_IF_ERROR(CheckCount(signature, size, who));
  if (signature.root < 0 || signature.root >= size) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "the group has ", size, " ranks"));
  }
  if (signature.count > 0 && (call.in == nullptr || call.out == nullptr)) {
    return absl::InvalidArgumentError(absl::StrCat(who, "null buffer"));
  }
  if (signature.collective == Collective::kAllToAllV) {
    ZEROMINI_RETURN_IF_ERROR(CheckAllToAll(call, size, who));
  }
  return CheckWire(call, who);
}

absl::Status CheckAgreement(absl::Span<const Signature> by_rank) {
  for (size_t r = 1; r < by_rank.size(); ++r) {
    if (by_rank[r] == by_rank[0]) continue;
    return absl::InvalidArgumentError(
        DescribeDifference(by_rank[0], by_rank[r], r));
  }
  return absl::OkStatus();
}

absl::Status CheckCounts(const Signature& what,
                         absl::Span<const RankCounts> by_rank) {
  if (what.collective != Collective::kAllToAllV) return absl::OkStatus();
  for (size_t from = 0; from < by_rank.size(); ++from) {
    for (size_t to = 0; to < by_rank.size(); ++to) {
      const int64_t sent = by_rank[from].sends[to];
      const int64_t expected = by_rank[to].receives[from];
      if (sent == expected) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("ranks disagree on a count: rank ", from, " sends ",
                       sent, " elements to rank ", to, ", which expects ",
                       expected, ", in ", Describe(what)));
    }
  }
  return absl::OkStatus();
}

}  // namespace zeromini
