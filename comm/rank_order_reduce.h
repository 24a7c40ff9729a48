// The one reduction that every host backend uses, so that they agree bit for
// bit.

#ifndef ZEROMINI_COMM_RANK_ORDER_REDUCE_H_
#define ZEROMINI_COMM_RANK_ORDER_REDUCE_H_

#include <cstdint>

#include "absl/types/span.h"
#include "zeromini/types.h"

namespace zeromini {

// out[i] = sources[0][i] op sources[1][i] op ..., from the left. 16-bit floats
// are added in fp32 and rounded once; integers wrap; a NaN in any source is the
// result of max and min too. `out` may be one of the sources, exactly.
void ReduceInRankOrder(absl::Span<const void* const> sources, void* out,
                       int64_t count, DType dtype, ReduceOp op);

}  // namespace zeromini

#endif  // ZEROMINI_COMM_RANK_ORDER_REDUCE_H_
