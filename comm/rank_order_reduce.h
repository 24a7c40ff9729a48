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

// One rank's contribution to a sum of fp32 elements, as it is stored.
struct WireSource {
  const void* data;
  DType dtype;  // kFloat32 or kBFloat16.
};

// out[i] = sources[0][i] + sources[1][i] + ..., from the left, in fp32. `out`
// may be one of the fp32 sources, exactly.
void ReduceWire(absl::Span<const WireSource> sources, float* out,
                int64_t count);

// The format of an exchange: kFloat32 (a copy) or kBFloat16 (rounded to nearest
// even; what is nearer to 2^128 than to bf16's largest becomes infinite). `in`
// and `out` do not overlap.
void RoundToWire(const float* in, void* out, int64_t count, DType wire);
void WidenFromWire(const void* in, float* out, int64_t count, DType wire);

// Both in one: what a receiver sees. `out` may be `in`, exactly.
void RoundThroughWire(const float* in, float* out, int64_t count, DType wire);

}  // namespace zeromini

#endif  // ZEROMINI_COMM_RANK_ORDER_REDUCE_H_
