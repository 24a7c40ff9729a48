// Whether a tensor is stored [out, in] or [in, out]: what shapes tell.

#ifndef ZEROMINI_SHARD_ORIENTATION_H_
#define ZEROMINI_SHARD_ORIENTATION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "shard/block_rules.h"
#include "shard/name_tables.h"
#include "zeromini/plan.h"

namespace zeromini {

// InvalidArgument if the model's hidden size is on the other side than the name
// says: the wrong orientation would give a scalar per input. Squares, and
// matrices without a side of that size, pass.
absl::Status CheckOrientation(const ParamSpec& spec, const NameClass& found,
                              const ModelShape& model);

// A square does not show its orientation. Appends one warning that names those
// declared otherwise than the other matrices nearest to them in the module
// tree. Parameters with a rule of their own are not questioned.
void WarnOfSquares(absl::Span<const PlannedParam> params,
                   std::vector<std::string>* warnings);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_ORIENTATION_H_
