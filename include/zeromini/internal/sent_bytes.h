// What a rank sends of an exchange, by the algorithm that sends least: what
// CountingCommunicator counts, and what a plan foretells.

#ifndef ZEROMINI_INTERNAL_SENT_BYTES_H_
#define ZEROMINI_INTERNAL_SENT_BYTES_H_

#include <cstdint>

namespace zeromini {

// `bytes`: of the whole exchange, all `ranks` segments of it. `passes`: 1 for a
// reduce-scatter, all-gather or broadcast, 2 for an all-reduce. One division at
// the end, so that the bytes of all calls add up to the same anywhere.
constexpr int64_t SentBytes(int64_t bytes, int passes, int64_t ranks) {
  return passes * (ranks - 1) * bytes / ranks;
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_SENT_BYTES_H_
