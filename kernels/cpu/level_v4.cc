#include <immintrin.h>

#include "kernels/cpu/level.h"

namespace zeromini::level_v4 {

constexpr int kVectorBytes = 64;
#include "kernels/cpu/vectors.inc"

namespace {

// With a mask, since gcc 12 warns of what the forms without leave undefined.
constexpr __mmask16 kAll = 0xffff;

inline __attribute__((always_inline)) IntVector Widen(const int8_t* from) {
  return reinterpret_cast<IntVector>(_mm512_maskz_cvtepi8_epi32(
      kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

inline __attribute__((always_inline)) IntVector Widen(const uint8_t* from) {
  return reinterpret_cast<IntVector>(_mm512_maskz_cvtepu8_epi32(
      kAll, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from))));
}

inline __attribute__((always_inline)) IntVector Widen(const int16_t* from) {
  return reinterpret_cast<IntVector>(_mm512_maskz_cvtepi16_epi32(
      kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
}

inline __attribute__((always_inline)) IntVector Widen(const uint16_t* from) {
  return reinterpret_cast<IntVector>(_mm512_maskz_cvtepu16_epi32(
      kAll, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))));
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

// Elements of a byte or two.
template <typename Element>
inline __attribute__((always_inline)) void NarrowChunk(const BitsChunk& wide,
                                                       char* bytes) {
  for (int k = 0; k < kVectors; ++k) {
    const auto lanes = reinterpret_cast<__m512i>(wide.vectors[k]);
    char* const to = bytes + k * kFloats * sizeof(Element);
    if (sizeof(Element) == 1) {
      Store(_mm512_maskz_cvtepi32_epi8(kAll, lanes), to);
    } else {
      Store(_mm512_maskz_cvtepi32_epi16(kAll, lanes), to);
    }
  }
}

inline __attribute__((always_inline)) FloatVector ToFloat(IntVector numbers) {
  return reinterpret_cast<FloatVector>(
      _mm512_maskz_cvtepi32_ps(kAll, reinterpret_cast<__m512i>(numbers)));
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

}  // namespace zeromini::level_v4
