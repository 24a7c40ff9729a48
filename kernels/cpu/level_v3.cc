#include <immintrin.h>

#include "kernels/cpu/level.h"

namespace zeromini::level_v3 {

constexpr int kVectorBytes = 32;
#include "kernels/cpu/vectors.inc"

namespace {

inline __attribute__((always_inline)) IntVector Widen(const int8_t* from) {
  return reinterpret_cast<IntVector>(_mm256_cvtepi8_epi32(
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}

inline __attribute__((always_inline)) IntVector Widen(const uint8_t* from) {
  return reinterpret_cast<IntVector>(_mm256_cvtepu8_epi32(
      _mm_loadl_epi64(reinterpret_cast<const __m128i*>(from))));
}

inline __attribute__((always_inline)) IntVector Widen(const int16_t* from) {
  return reinterpret_cast<IntVector>(_mm256_cvtepi16_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

inline __attribute__((always_inline)) IntVector Widen(const uint16_t* from) {
  return reinterpret_cast<IntVector>(_mm256_cvtepu16_epi32(
      _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

template <typename Element>
inline __attribute__((always_inline)) IntChunk WidenChunk(const char* bytes) {
  const auto* from = reinterpret_cast<const Element*>(bytes);
  IntChunk wide;
  for (int k = 0; k < kVectors; ++k) {
    wide.vectors[k] = Widen(from + k * kFloats);
  }
  return wide;
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

}  // namespace zeromini::level_v3
