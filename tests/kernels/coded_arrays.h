// Coded weights and state with a gradient, and the two roads of their update.

#ifndef ZEROMINI_TESTS_KERNELS_CODED_ARRAYS_H_
#define ZEROMINI_TESTS_KERNELS_CODED_ARRAYS_H_

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "tests/kernels/codec_inputs.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {

inline constexpr UpdateRule kUpdateRules[] = {
    UpdateRule::kAdamMini, UpdateRule::kAdamW, UpdateRule::kSgd,
    UpdateRule::kFactored};

inline constexpr StateFormat kStateFormats[] = {
    StateFormat::kFloat32, StateFormat::kBFloat16, StateFormat::kInt8};

struct CodedCase {
  UpdateRule rule = UpdateRule::kAdamMini;
  WeightKind weights = {DType::kFloat32, MasterFormat::kNone};
  StateFormat state = StateFormat::kFloat32;
  int64_t blocks = 1;
  int64_t block_rows = 1;
  int64_t row_elements = 1;
  int64_t first_element = 0;
  int64_t other_blocks_elements = 0;  // Of a split block, on other ranks.

  int64_t rows() const { return blocks * block_rows; }
  int64_t elements() const { return rows() * row_elements; }
};

inline std::string NameOf(const CodedCase& c) {
  return std::string(DTypeName(c.weights.dtype)) + " " +
         MasterFormatName(c.weights.format) + " " + StateFormatName(c.state) +
         " rule " + std::to_string(static_cast<int>(c.rule)) + ", blocks " +
         std::to_string(c.blocks) + " x " + std::to_string(c.block_rows) +
         " x " + std::to_string(c.row_elements) + ", first element " +
         std::to_string(c.first_element);
}

inline std::vector<float> RandomFloats(uint64_t stream, int64_t count,
                                       float scale) {
  std::vector<float> values;
  for (int64_t i = 0; i < count; ++i) {
    values.push_back(scale * RandomFloat(stream, i));
  }
  return values;
}

// Packed by the reference, whose bits all tables have.
struct CodedArrays {
  explicit CodedArrays(const CodedCase& coded)
      : c(coded),
        weights(c.weights, RandomFloats(11, c.elements(), 1)),
        momentum({c.state, false}, RandomFloats(12, c.elements(), 0.01f),
                 c.row_elements),
        second_moment({c.state, true}, RandomFloats(13, c.elements(), 1e-3f),
                      c.row_elements),
        gradient(14, c.elements()),
        block_moments(RandomFloats(15, c.blocks, 1)),
        block_sums(c.blocks),
        row_moments(RandomFloats(16, c.rows(), 1)),
        row_sums(c.rows()),
        column_factors(RandomFloats(17, c.row_elements, 1)) {
    for (float& v : block_moments) v = v * v;
    for (int64_t b = 0; b < c.blocks; ++b) block_sums[b] = 0.5 + double(b);
    for (float& v : row_moments) v = v * v;
    for (int64_t r = 0; r < c.rows(); ++r) row_sums[r] = 0.25 + double(r);
    for (float& f : column_factors) f = std::abs(f);
    RunKernel(ReferenceKernels().pack_weights, weights.args());
    RunKernel(ReferenceKernels().pack_state, momentum.args());
    RunKernel(ReferenceKernels().pack_state, second_moment.args());
  }

  CodedUpdateArgs args() {
    return {c.rule,
            weights.args(21, c.first_element),
            momentum.args(22, c.first_element + 5),
            second_moment.args(23, c.first_element + 9),
            gradient.data(),
            block_moments.data(),
            block_sums.data(),
            c.blocks,
            c.block_rows * c.row_elements + c.other_blocks_elements,
            row_moments.data(),
            row_sums.data(),
            column_factors.data(),
            &scalars};
  }

  std::vector<std::vector<uint8_t>> stored() const {
    const std::vector<float>& moments =
        c.rule == UpdateRule::kFactored ? row_moments : block_moments;
    const auto* bytes = reinterpret_cast<const uint8_t*>(moments.data());
    return {weights.weights.bytes(),
            weights.master.bytes(),
            momentum.packed.bytes(),
            momentum.scales.bytes(),
            second_moment.packed.bytes(),
            second_moment.scales.bytes(),
            {bytes, bytes + moments.size() * sizeof(float)}};
  }

  CodedCase c;
  Weights weights;
  State momentum;
  State second_moment;
  UnalignedFloats gradient;
  std::vector<float> block_moments;
  std::vector<double> block_sums;
  std::vector<float> row_moments;
  std::vector<double> row_sums;
  std::vector<float> column_factors;  // Room for no vector beyond the last.
  StepScalars scalars = TypicalScalars();
};

inline void UpdateUnpacked(const KernelTable& table, const CodedArrays& arrays,
                           const CodedUpdateArgs& args) {
  float* const weights = args.weights.unpacked;
  float* const momentum = args.momentum.unpacked;
  switch (args.rule) {
    case UpdateRule::kAdamMini:
      return RunKernel(
          table.adam_mini_step,
          {weights, args.gradient, momentum, args.block_moments,
           args.block_sums, args.blocks, arrays.c.block_rows,
           arrays.c.row_elements, args.block_elements, args.scalars});
    case UpdateRule::kAdamW:
      return RunKernel(table.adamw, {weights, args.gradient, momentum,
                                     args.second_moment.unpacked,
                                     arrays.c.elements(), args.scalars});
    case UpdateRule::kSgd:
      return RunKernel(table.sgd, {weights, args.gradient, momentum,
                                   arrays.c.elements(), args.scalars});
    case UpdateRule::kFactored:
      return RunKernel(table.factored_step,
                       {weights, args.gradient, momentum, args.row_moments,
                        args.row_sums, args.column_factors, arrays.c.rows(),
                        arrays.c.row_elements, args.scalars});
  }
}

// The road of five kernels; `args` are of `arrays`.
inline void UnpackUpdatePack(const KernelTable& table,
                             const CodedArrays& arrays, CodedUpdateArgs args) {
  args.weights.scalars = args.momentum.scalars = args.second_moment.scalars =
      args.scalars;
  const bool moments = args.rule == UpdateRule::kAdamW;
  RunKernel(table.unpack_weights, args.weights);
  RunKernel(table.unpack_state, args.momentum);
  if (moments) RunKernel(table.unpack_state, args.second_moment);
  UpdateUnpacked(table, arrays, args);
  RunKernel(table.pack_weights, args.weights);
  RunKernel(table.pack_state, args.momentum);
  if (moments) RunKernel(table.pack_state, args.second_moment);
}

inline void UnpackUpdatePack(const KernelTable& table, CodedArrays& arrays) {
  UnpackUpdatePack(table, arrays, arrays.args());
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_KERNELS_CODED_ARRAYS_H_
