#include "kernels/cpu/level.h"

namespace zeromini::level_base {

constexpr int kVectorBytes = 16;
#include "kernels/cpu/vectors.inc"

namespace {

// The compiler makes the vectors: SSE2 has no instruction for them.
template <typename Element>
inline __attribute__((always_inline)) IntChunk WidenChunk(const char* bytes) {
  const auto* from = reinterpret_cast<const Element*>(bytes);
  int32_t lanes[kChunk];
  for (int i = 0; i < kChunk; ++i) lanes[i] = from[i];
  IntChunk wide;
  __builtin_memcpy(&wide, lanes, sizeof(lanes));
  return wide;
}

// A loop, which becomes packs of registers.
template <typename Element>
inline __attribute__((always_inline)) void NarrowChunk(const BitsChunk& wide,
                                                       char* bytes) {
  auto* to = reinterpret_cast<Element*>(bytes);
  uint32_t lanes[kChunk];
  __builtin_memcpy(lanes, &wide, sizeof(lanes));
  for (int i = 0; i < kChunk; ++i) to[i] = static_cast<Element>(lanes[i]);
}

}  // namespace

// Each of these needs those before it.
// clang-format off
#include "kernels/cpu/codec_kernels.inc"
#include "kernels/cpu/codec_state_kernels.inc"
#include "kernels/cpu/update_rules.inc"
#include "kernels/cpu/coded_chunks.inc"
#include "kernels/cpu/coded_rules.inc"
#include "kernels/cpu/coded_kernels.inc"
#include "kernels/cpu/lane_kernels.inc"
#include "kernels/cpu/column_kernels.inc"
#include "kernels/cpu/factored_kernels.inc"
// clang-format on

}  // namespace zeromini::level_base
