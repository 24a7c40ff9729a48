#include "absl/strings/str_cat.h"
#include "zeromini/internal/check.h"
#include "zeromini/plan.h"

namespace zeromini {

const char* AlgorithmName(Algorithm algorithm) {
  switch (algorithm) {
    case Algorithm::kAdamW:
      return "adamw";
    case Algorithm::kAdamMini:
      return "adam-mini";
    case Algorithm::kSgd:
      return "sgd";
  }
  ZEROMINI_CHECK(false);
  return "";
}

absl::StatusOr<Algorithm> ParseAlgorithm(absl::string_view name) {
  for (Algorithm algorithm :
       {Algorithm::kAdamW, Algorithm::kAdamMini, Algorithm::kSgd}) {
    if (name == AlgorithmName(algorithm)) return algorithm;
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "unknown optimizer \"", name, "\"; known: adam-mini, adamw, sgd"));
}

const char* RoleName(Role role) {
  switch (role) {
    case Role::kEmbedding:
      return "embedding";
    case Role::kOutput:
      return "output";
    case Role::kQuery:
      return "query";
    case Role::kKey:
      return "key";
    case Role::kValue:
      return "value";
    case Role::kFusedQkv:
      return "fused-qkv";
    case Role::kAttentionOutput:
      return "attention-output";
    case Role::kMlp:
      return "mlp";
    case Role::kNorm:
      return "norm";
    case Role::kBias:
      return "bias";
    case Role::kOther:
      return "other";
  }
  ZEROMINI_CHECK(false);
  return "";
}

const char* BlockKindName(BlockKind kind) {
  switch (kind) {
    case BlockKind::kHead:
      return "head";
    case BlockKind::kRow:
      return "row";
    case BlockKind::kWhole:
      return "whole";
  }
  ZEROMINI_CHECK(false);
  return "";
}

const char* MomentFormName(MomentForm form) {
  switch (form) {
    case MomentForm::kBlocks:
      return "blocks";
    case MomentForm::kFactored:
      return "factored";
    case MomentForm::kColumns:
      return "columns";
  }
  ZEROMINI_CHECK(false);
  return "";
}

const char* SecondMomentName(SecondMoment form) {
  switch (form) {
    case SecondMoment::kOfficial:
      return "official";
    case SecondMoment::kFactored:
      return "factored";
  }
  ZEROMINI_CHECK(false);
  return "";
}

const char* BucketReasonName(BucketReason reason) {
  switch (reason) {
    case BucketReason::kUnits:
      return "units";
    case BucketReason::kJunction:
      return "junction";
    case BucketReason::kRemainder:
      return "remainder";
    case BucketReason::kLayer:
      return "layer";
    case BucketReason::kPacked:
      return "packed";
    case BucketReason::kTransposed:
      return "transposed";
    case BucketReason::kProjected:
      return "projected";
  }
  ZEROMINI_CHECK(false);
  return "";
}

}  // namespace zeromini
