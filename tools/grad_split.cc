#include "tools/grad_split.h"

#include <cmath>
#include <cstring>

namespace zeromini::tools {
namespace {

constexpr uint32_t kSignBit = 0x80000000u;
constexpr uint32_t kFractionMask = 0x007fffffu;
constexpr uint32_t kHiddenBit = 0x00800000u;
constexpr uint32_t kExponentOfInf = 255;
// Exponent of the last significand bit of a float whose exponent field is 1.
constexpr int kLowestExponent = -149;

// splitmix64, a published counter generator (Steele, Lea and Flood 2014).
uint64_t Mix(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

float HandOfElement(int rank, float value, uint64_t counter, int ranks) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  const uint32_t exponent = (bits & ~kSignBit) >> 23;
  if (exponent == kExponentOfInf) return rank == 0 ? value : 0.0f;
  // Subnormals have no hidden bit and the scale of exponent field 1.
  const uint32_t significand =
      (bits & kFractionMask) | (exponent > 0 ? kHiddenBit : 0);
  const int scale =
      kLowestExponent + (exponent > 0 ? static_cast<int>(exponent) - 1 : 0);
  uint32_t hand = 0;
  for (int bit = 0; bit < 24; ++bit) {
    if ((significand >> bit & 1) == 0) continue;
    const uint64_t owner = Mix(counter + bit) % static_cast<uint64_t>(ranks);
    if (owner == static_cast<uint64_t>(rank)) hand |= 1u << bit;
  }
  return std::copysign(std::ldexp(static_cast<float>(hand), scale), value);
}

}  // namespace

std::vector<float> HandOf(int rank, absl::Span<const float> gradient,
                          const Deal& deal) {
  const uint64_t seed = Mix(Mix(static_cast<uint64_t>(deal.tensor)) +
                            static_cast<uint64_t>(deal.step));
  std::vector<float> hand(gradient.size());
  for (size_t i = 0; i < gradient.size(); ++i) {
    // 32 counters an element, of which a significand uses at most 24.
    hand[i] = HandOfElement(rank, gradient[i], Mix(seed + i) << 5, deal.ranks);
  }
  return hand;
}

}  // namespace zeromini::tools
