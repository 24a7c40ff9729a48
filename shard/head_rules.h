// Rules of query, key and fused tensors, checked against the model's heads.

#ifndef ZEROMINI_SHARD_HEAD_RULES_H_
#define ZEROMINI_SHARD_HEAD_RULES_H_

#include "absl/status/statusor.h"
#include "shard/block_rules.h"
#include "shard/name_tables.h"
#include "zeromini/plan.h"

namespace zeromini {

// Of a kQuery, kKey or kFusedQkv tensor. InvalidArgument, with the numbers, if
// the head dimension is unknown or the rows are not those of the model's heads.
// Appends to choice->warnings.
absl::StatusOr<BlockRule> HeadRuleFor(const ParamSpec& spec,
                                      const NameClass& found,
                                      const PlanOptions& options,
                                      BlockChoice* choice);

// Whether the rows of a value projection are those of the model's kv heads.
bool HasRowsOfKvHeads(const RowGeometry& geometry, const ModelShape& model);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_HEAD_RULES_H_
