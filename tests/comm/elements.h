// What each rank contributes to the exchanges of the conformance tests.

#ifndef ZEROMINI_TESTS_COMM_ELEMENTS_H_
#define ZEROMINI_TESTS_COMM_ELEMENTS_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace zeromini {
namespace conformance {

// Exponents differ so much that any other order of additions shows.
inline float Element(int rank, int64_t i) {
  uint64_t x = (static_cast<uint64_t>(rank) << 40) + static_cast<uint64_t>(i);
  x = (x + 1) * 0x9e3779b97f4a7c15u;
  x ^= x >> 29;
  x *= 0xbf58476d1ce4e5b9u;
  x ^= x >> 32;
  const float fraction = static_cast<float>(x & 0xffff) / 65536.0f - 0.5f;
  return std::ldexp(fraction, static_cast<int>(x >> 16 & 15) - 8);
}

inline std::vector<float> Elements(int rank, int64_t count) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) values[i] = Element(rank, i);
  return values;
}

// Around the edges of blocks (1024) and of chunks (up to 1 MiB).
inline constexpr int64_t kCounts[] = {1, 3, 1000, 1024, 1025, 300001};

}  // namespace conformance
}  // namespace zeromini

#endif  // ZEROMINI_TESTS_COMM_ELEMENTS_H_
