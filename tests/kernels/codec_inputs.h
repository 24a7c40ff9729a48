// Floats of every kind, and arrays that codecs read and write, for tests.

#ifndef ZEROMINI_TESTS_KERNELS_CODEC_INPUTS_H_
#define ZEROMINI_TESTS_KERNELS_CODEC_INPUTS_H_

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tests/kernels/inputs.h"
#include "zeromini/internal/format_bytes.h"
#include "zeromini/internal/half.h"
#include "zeromini/kernels.h"

namespace zeromini {

// Both signs of each exponent, zeros, infinities and NaNs among them, with the
// mantissas where roundings change.
inline std::vector<float> EdgeFloats() {
  const uint32_t mantissas[] = {
      0,       1,        0x7ffe,   0x7fff,   0x8000,   0x8001,  0xffff,
      0x10000, 0x17fff,  0x18000,  0x18001,  0x0fff,   0x1000,  0x1001,
      0x3000,  0x400000, 0x7f0000, 0x7f7fff, 0x7f8000, 0x7fffff};
  std::vector<float> values;
  for (uint32_t high = 0; high < 512; ++high) {
    for (uint32_t mantissa : mantissas) {
      values.push_back(FloatFromBits(high << 23 | mantissa));
    }
  }
  return values;
}

// The edges, then random patterns.
inline std::vector<float> WildFloats(int64_t random) {
  std::vector<float> values = EdgeFloats();
  for (int64_t i = 0; i < random; ++i) {
    values.push_back(FloatFromBits(static_cast<uint32_t>(RandomBits(5, i))));
  }
  return values;
}

inline std::vector<float> FiniteFloats(int64_t random) {
  std::vector<float> values;
  for (float value : WildFloats(random)) {
    if (std::isfinite(value)) values.push_back(value);
  }
  return values;
}

inline std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (float value : values) bits.push_back(BitsFromFloat(value));
  return bits;
}

// An array of elements of one to four bytes, one element past an aligned
// address, with a canary behind it.
class RawArray {
 public:
  RawArray(int64_t size, int64_t element_bytes)
      : begin_(element_bytes),
        bytes_(static_cast<size_t>((size + 2) * element_bytes), 0xa5) {}

  template <typename Element>
  Element* as() {
    return reinterpret_cast<Element*>(bytes_.data() + begin_);
  }
  void* data() { return bytes_.data() + begin_; }
  const std::vector<uint8_t>& bytes() const {
    return bytes_;
  }  // With canaries.

 private:
  int64_t begin_;
  std::vector<uint8_t> bytes_;
};

struct WeightKind {
  DType dtype;
  MasterFormat format;
};

inline constexpr WeightKind kWeightKinds[] = {
    {DType::kFloat32, MasterFormat::kNone},
    {DType::kBFloat16, MasterFormat::kNone},
    {DType::kBFloat16, MasterFormat::kFloat32},
    {DType::kBFloat16, MasterFormat::kRemainder16},
    {DType::kBFloat16, MasterFormat::kRemainder8},
    {DType::kFloat16, MasterFormat::kNone},
    {DType::kFloat16, MasterFormat::kFloat32},
};

struct Weights {
  Weights(WeightKind weight_kind, std::vector<float> values)
      : kind(weight_kind),
        unpacked(std::move(values)),
        weights(elements(), SizeOf(kind.dtype)),
        master(elements(), MasterBytes(kind.format)) {}

  int64_t elements() const { return static_cast<int64_t>(unpacked.size()); }

  WeightCodecArgs args(uint64_t seed = 1, int64_t first_element = 0) {
    return {weights.data(),
            kind.format == MasterFormat::kNone ? nullptr : master.data(),
            unpacked.data(),
            elements(),
            kind.dtype,
            kind.format,
            seed,
            first_element};
  }

  WeightKind kind;
  std::vector<float> unpacked;
  RawArray weights;
  RawArray master;
};

struct StateKind {
  StateFormat format;
  bool squares;
};

inline constexpr StateKind kStateKinds[] = {
    {StateFormat::kFloat32, false}, {StateFormat::kBFloat16, false},
    {StateFormat::kBFloat16, true}, {StateFormat::kInt8, false},
    {StateFormat::kInt8, true},
};

inline int64_t PackedBytes(StateFormat format) {
  switch (format) {
    case StateFormat::kFloat32:
      return 4;
    case StateFormat::kBFloat16:
      return 2;
    case StateFormat::kInt8:
      return 1;
  }
  return 0;
}

inline int64_t GroupsOfRow(int64_t row_elements) {
  return (row_elements + kStateGroup - 1) / kStateGroup;
}

// As many whole rows as the values fill.
struct State {
  State(StateKind state_kind, std::vector<float> values, int64_t columns)
      : kind(state_kind),
        row_elements(columns),
        rows(static_cast<int64_t>(values.size()) / columns),
        unpacked(std::move(values)),
        packed(rows * row_elements, PackedBytes(kind.format)),
        scales(rows * GroupsOfRow(row_elements), 2) {
    unpacked.resize(rows * row_elements);
    for (float& value : unpacked) {
      if (kind.squares) value = std::abs(value);
    }
  }

  StateCodecArgs args(uint64_t seed = 1, int64_t first_element = 0) {
    return {packed.data(), scales.as<uint16_t>(), unpacked.data(), rows,
            row_elements,  kind.format,           kind.squares,    seed,
            first_element};
  }
  float scale(int64_t i) {  // Of the group of element i.
    const int64_t group = i / row_elements * GroupsOfRow(row_elements) +
                          i % row_elements / kStateGroup;
    return FromBFloat16(scales.as<uint16_t>()[group]);
  }

  StateKind kind;
  int64_t row_elements;
  int64_t rows;
  std::vector<float> unpacked;
  RawArray packed;
  RawArray scales;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_KERNELS_CODEC_INPUTS_H_
