// Which parameter of one plan is which of another.

#ifndef ZEROMINI_SHARD_PLAN_MATCH_H_
#define ZEROMINI_SHARD_PLAN_MATCH_H_

#include <vector>

#include "absl/status/statusor.h"
#include "zeromini/plan.h"

namespace zeromini {

// result[i]: the parameter of `from` that owns the storage of to.params[i].
// Fails as MakeMap does.
absl::StatusOr<std::vector<int>> MatchParams(const Plan& from, const Plan& to);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_PLAN_MATCH_H_
