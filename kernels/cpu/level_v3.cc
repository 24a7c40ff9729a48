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

inline __attribute__((always_inline)) __m256i PackPair(const BitsChunk& wide,
                                                       int first,
                                                       uint32_t mask) {
  return _mm256_packus_epi32(
      reinterpret_cast<__m256i>(wide.vectors[first] & mask),
      reinterpret_cast<__m256i>(wide.vectors[first + 1] & mask));
}

// Elements of a byte or two. Packs leave the halves of registers apart.
template <typename Element>
inline __attribute__((always_inline)) void NarrowChunk(const BitsChunk& wide,
                                                       char* bytes) {
  if (sizeof(Element) == 1) {
    const __m256i packed =
        _mm256_packus_epi16(PackPair(wide, 0, 0xff), PackPair(wide, 2, 0xff));
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    Store(_mm256_permutevar8x32_epi32(packed, order), bytes);
  } else {
    for (int k = 0; k < kVectors; k += 2) {
      Store(_mm256_permute4x64_epi64(PackPair(wide, k, 0xffff), 0xd8),
            bytes + k * kFloats * sizeof(Element));
    }
  }
}

inline __attribute__((always_inline)) FloatVector ToFloat(IntVector numbers) {
  return reinterpret_cast<FloatVector>(
      _mm256_cvtepi32_ps(reinterpret_cast<__m256i>(numbers)));
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
