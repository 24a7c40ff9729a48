// The sequence of random numbers of a stochastic rounding.

#ifndef ZEROMINI_KERNELS_ROUNDING_SEQUENCE_H_
#define ZEROMINI_KERNELS_ROUNDING_SEQUENCE_H_

#include <cstdint>

namespace zeromini {

// Another one for each seed and step: the finaliser of splitmix64
// (prng.di.unimi.it), a bijection. The step's factor is odd, and none that
// codecs or callers derive seeds with, so that no step of one seed is likely to
// be a step of another. Plain integers: the same on every device.
constexpr uint64_t RoundingSequence(uint64_t seed, int64_t step) {
  uint64_t x = seed + static_cast<uint64_t>(step) * 0xd1342543de82ef95;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

}  // namespace zeromini

#endif  // ZEROMINI_KERNELS_ROUNDING_SEQUENCE_H_
