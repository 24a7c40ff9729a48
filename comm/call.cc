#include "comm/call.h"

#include "absl/strings/str_cat.h"

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
    case Collective::kBarrier:
      return "barrier";
    case Collective::kSplit:
      return "split";
  }
  return "unknown collective";
}

const char* Name(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "fp32";
    case DType::kBFloat16:
      return "bf16";
    case DType::kFloat16:
      return "fp16";
    case DType::kInt64:
      return "int64";
    case DType::kByte:
      return "byte";
  }
  return "unknown dtype";
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
  absl::StrAppend(&text, ", ", signature.count, " x ",
                  Name(static_cast<DType>(signature.dtype)));
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
  if (signature.count < 0) {
    return absl::InvalidArgumentError(absl::StrCat(who, "negative count"));
  }
  if (signature.root < 0 || signature.root >= size) {
    return absl::InvalidArgumentError(
        absl::StrCat(who, "the group has ", size, " ranks"));
  }
  if (signature.count > 0 && (call.in == nullptr || call.out == nullptr)) {
    return absl::InvalidArgumentError(absl::StrCat(who, "null buffer"));
  }
  return absl::OkStatus();
}

absl::Status CheckAgreement(absl::Span<const Signature> by_rank) {
  for (size_t r = 1; r < by_rank.size(); ++r) {
    if (by_rank[r] == by_rank[0]) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "ranks make different calls: rank 0 calls ", Describe(by_rank[0]),
        "; rank ", r, " calls ", Describe(by_rank[r])));
  }
  return absl::OkStatus();
}

}  // namespace zeromini
