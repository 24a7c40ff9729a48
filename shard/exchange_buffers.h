// How many exchange buffers of which size a step needs: arithmetic on the plan,
// the same on every rank.

#ifndef ZEROMINI_SHARD_EXCHANGE_BUFFERS_H_
#define ZEROMINI_SHARD_EXCHANGE_BUFFERS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// Buffers of one size, for all buckets that no smaller ones hold.
struct BufferClass {
  int64_t bytes = 0;  // Of each.
  int count = 0;
};

// Ascending by bytes; none if all exchanges run at home. A step whose gradients
// come in the reverse order of the parameters takes exactly these: for each
// class as many as fill at a time, and one more that travels meanwhile if all
// together then stay within options.buffer_budget_bytes. What
// fills at a time is needed, budget or not. Buckets share buffers of up to
// twice their size, unless buffers of each one's own size take less: many that
// fill at a time, as those of a tied tensor, would waste up to half.
std::vector<BufferClass> ExchangeBuffers(const Plan& plan,
                                         const OptimizerOptions& options);

int64_t TotalBytes(absl::Span<const BufferClass> classes);

// Of `classes`, the smallest whose buffers hold `bytes`; null if none does.
const BufferClass* SmallestThatHolds(absl::Span<const BufferClass> classes,
                                     int64_t bytes);

}  // namespace zeromini

#endif  // ZEROMINI_SHARD_EXCHANGE_BUFFERS_H_
