// In-place streams: the most a kernel of the same reads and writes can reach.

#ifndef ZEROMINI_TOOLS_BENCH_STREAMS_H_
#define ZEROMINI_TOOLS_BENCH_STREAMS_H_

#include <cstdint>

namespace zeromini::tools {

// `elements` must be a multiple of 16. Each updated array becomes half itself
// plus `read`.
//
// 20 bytes per element: three arrays read, two of them written.
void Rmw5(const float* read, float* a, float* b, int64_t elements);

// 28 bytes per element: four arrays read, three of them written.
void Rmw7(const float* read, float* a, float* b, float* c, int64_t elements);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_BENCH_STREAMS_H_
