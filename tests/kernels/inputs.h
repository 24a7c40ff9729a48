// Arrays for kernel tests, the same on every machine: made of integers.

#ifndef ZEROMINI_TESTS_KERNELS_INPUTS_H_
#define ZEROMINI_TESTS_KERNELS_INPUTS_H_

#include <cstdint>
#include <cstring>
#include <vector>

#include "zeromini/kernels.h"

namespace zeromini {

// Value i of a stream: splitmix64 of a counter.
inline uint64_t RandomBits(uint64_t stream, uint64_t i) {
  uint64_t z = (stream << 32) + (i + 1) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

// 24 random bits in [-1, 1), times a power of two in [2^-12, 2^3].
inline float RandomFloat(uint64_t stream, uint64_t i) {
  const uint64_t bits = RandomBits(stream, i);
  const int64_t mantissa = static_cast<int64_t>(bits >> 39) - (1 << 24);
  const float magnitude =
      static_cast<float>(1 << (bits % 16)) / (1 << 12) / (1 << 24);
  return static_cast<float>(mantissa) * magnitude;
}

// An array one float past an aligned address.
class UnalignedFloats {
 public:
  UnalignedFloats(uint64_t stream, int64_t size) : values_(size + 1) {
    for (int64_t i = 0; i < size; ++i) values_[i + 1] = RandomFloat(stream, i);
  }
  float* data() { return values_.data() + 1; }
  const float* data() const { return values_.data() + 1; }
  int64_t size() const { return static_cast<int64_t>(values_.size()) - 1; }
  float& operator[](int64_t i) { return values_[i + 1]; }
  float operator[](int64_t i) const { return values_[i + 1]; }
  bool operator==(const UnalignedFloats& other) const {
    return std::memcmp(data(), other.data(), size() * sizeof(float)) == 0;
  }

 private:
  std::vector<float> values_;
};

inline StepScalars TypicalScalars() {
  StepScalars scalars;
  scalars.learning_rate = 3e-3;
  scalars.weight_decay = 0.1;
  scalars.step = 7;
  scalars.gradient_scale = 0.25;
  return scalars;
}

// Blocks of rows, and the state of one optimizer.
struct Problem {
  Problem(int64_t block_count, int64_t block_height, int64_t width)
      : blocks(block_count),
        block_rows(block_height),
        row_elements(width),
        parameter(1, elements()),
        gradient(2, elements()),
        momentum(3, elements()),
        second_moment(4, elements()),
        row_sums(blocks * block_rows),
        block_sums(blocks) {
    for (int64_t i = 0; i < elements(); ++i) {
      if (second_moment[i] < 0) second_moment[i] = -second_moment[i];
    }
  }

  int64_t elements() const { return blocks * block_rows * row_elements; }

  RowSumsArgs row_sums_args() {
    return {gradient.data(), blocks * block_rows, row_elements,
            row_sums.data()};
  }
  AdamMiniArgs adam_mini_args() {
    return {parameter.data(),
            gradient.data(),
            momentum.data(),
            second_moment.data(),
            block_sums.data(),
            blocks,
            block_rows,
            row_elements,
            block_rows * row_elements,
            &scalars};
  }
  AdamWArgs adamw_args() {
    return {parameter.data(),     gradient.data(), momentum.data(),
            second_moment.data(), elements(),      &scalars};
  }
  SgdArgs sgd_args() {
    return {parameter.data(), gradient.data(), momentum.data(), elements(),
            &scalars};
  }

  int64_t blocks;
  int64_t block_rows;
  int64_t row_elements;
  UnalignedFloats parameter;
  UnalignedFloats gradient;
  UnalignedFloats momentum;
  UnalignedFloats second_moment;  // Adam-mini uses the first `blocks`.
  std::vector<double> row_sums;
  std::vector<double> block_sums;
  StepScalars scalars = TypicalScalars();
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_KERNELS_INPUTS_H_
