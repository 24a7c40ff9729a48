#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/exact_sum.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/levels.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

constexpr double kUlp = 1.0 / (1 << 24);  // Of a float's rounding, relative.
const int64_t kSizes[] = {1, 3, 15, 16, 17, 31, 32, 33, 1000, 4096 + 5};
void FillBlockSums(Problem& problem) {
  RunKernel(CpuKernels().row_sums, problem.row_sums_args());
  for (int64_t b = 0; b < problem.blocks; ++b) {
    problem.block_sums[b] = BlockSum(
        problem.row_sums.data() + b * problem.block_rows, problem.block_rows);
  }
}

double DecayedLearningRate(const StepScalars& s) {
  return s.learning_rate / (1 - std::pow(s.beta1, s.step));
}

// The bound we state: the momentum within 4 roundings of its terms, a weight
// within 6 roundings of itself and of its update's terms.
void ExpectNear(const Problem& actual, const Problem& expected,
                const Problem& before, bool v_per_element) {
  const StepScalars& s = before.scalars;
  const int64_t block = before.block_rows * before.row_elements;
  for (int64_t i = 0; i < before.elements(); ++i) {
    const double v = expected.second_moment[v_per_element ? i : i / block];
    const double h = std::sqrt(v / (1 - std::pow(s.beta2, s.step))) + s.epsilon;
    const double terms = std::abs(before.momentum[i]) +
                         s.gradient_scale * std::abs(before.gradient[i]);
    ASSERT_NEAR(actual.momentum[i], expected.momentum[i], 4 * kUlp * terms);
    ASSERT_NEAR(actual.parameter[i], expected.parameter[i],
                6 * kUlp *
                    (std::abs(before.parameter[i]) +
                     DecayedLearningRate(s) * terms / h))
        << i;
  }
  const int64_t scalars = v_per_element ? before.elements() : before.blocks;
  for (int64_t i = 0; i < scalars; ++i) {
    const double v = expected.second_moment[i];
    ASSERT_NEAR(actual.second_moment[i], v, 4 * kUlp * v);
  }
}

TEST(CpuKernelsTest, RowSumsAreWithinTwoToMinusFiftyPerElementOfReference) {
  for (int64_t n : kSizes) {
    Problem problem(1, 3, n);
    RunKernel(CpuKernels().row_sums, problem.row_sums_args());
    const std::vector<double> sums = problem.row_sums;
    RunKernel(ReferenceKernels().row_sums, problem.row_sums_args());
    for (int r = 0; r < 3; ++r) {
      const double expected = problem.row_sums[r];
      EXPECT_NEAR(sums[r], expected, std::ldexp(n * expected, -52)) << n;
    }
  }
}

TEST(CpuKernelsTest, AdamMiniStepIsNearReference) {
  for (int64_t n : kSizes) {
    Problem before(3, 2, n);
    FillBlockSums(before);
    Problem actual = before;
    Problem expected = before;
    RunKernel(CpuKernels().adam_mini_step, actual.adam_mini_args());
    RunKernel(ReferenceKernels().adam_mini_step, expected.adam_mini_args());
    ExpectNear(actual, expected, before, false);
  }
}

TEST(CpuKernelsTest, AdamWIsNearReference) {
  for (int64_t n : kSizes) {
    const Problem before(1, 1, n);
    Problem actual = before;
    Problem expected = before;
    RunKernel(CpuKernels().adamw, actual.adamw_args());
    RunKernel(ReferenceKernels().adamw, expected.adamw_args());
    ExpectNear(actual, expected, before, true);
  }
}

// Within 3 roundings of the momentum's terms, and 5 of the weight's.
TEST(CpuKernelsTest, SgdIsNearReference) {
  for (int64_t n : kSizes) {
    const Problem before(1, 1, n);
    Problem actual = before;
    Problem expected = before;
    RunKernel(CpuKernels().sgd, actual.sgd_args());
    RunKernel(ReferenceKernels().sgd, expected.sgd_args());
    const StepScalars& s = before.scalars;
    for (int64_t i = 0; i < n; ++i) {
      const double terms = s.beta1 * std::abs(before.momentum[i]) +
                           s.gradient_scale * std::abs(before.gradient[i]);
      ASSERT_NEAR(actual.momentum[i], expected.momentum[i], 3 * kUlp * terms);
      ASSERT_NEAR(
          actual.parameter[i], expected.parameter[i],
          5 * kUlp * (std::abs(before.parameter[i]) + s.learning_rate * terms))
          << i;
    }
  }
}

TEST(CpuKernelsTest, SgdDoesNotUseWhatItSaysItDoesNot) {
  Problem plain(1, 1, 37);
  Problem other = plain;
  other.scalars.beta2 = 1;
  other.scalars.epsilon = 0;
  other.scalars.step = 0;
  RunKernel(CpuKernels().sgd, plain.sgd_args());
  RunKernel(CpuKernels().sgd, other.sgd_args());
  EXPECT_EQ(other.parameter, plain.parameter);
  EXPECT_EQ(other.momentum, plain.momentum);
}

TEST(CpuKernelsTest, FusedHasTheBitsOfSumsThenStep) {
  for (int64_t n : kSizes) {
    for (int64_t rows : {1, 2, 5}) {
      for (int64_t blocks : {1, 2, 3}) {
        Problem stepped(blocks, rows, n);
        FillBlockSums(stepped);
        Problem fused(blocks, rows, n);
        RunKernel(CpuKernels().adam_mini_step, stepped.adam_mini_args());
        RunKernel(CpuKernels().adam_mini_fused, fused.adam_mini_args());
        EXPECT_EQ(fused.parameter, stepped.parameter) << rows << "x" << n;
        EXPECT_EQ(fused.momentum, stepped.momentum) << rows << "x" << n;
        EXPECT_EQ(fused.second_moment, stepped.second_moment) << n;
      }
    }
  }
}

TEST(CpuKernelsTest, MomentsOfASplitBlockUseTheWholeBlocksCount) {
  Problem problem(1, 2, 8);
  problem.block_sums[0] = 64;
  problem.second_moment[0] = 0;
  AdamMiniArgs args = problem.adam_mini_args();
  args.block_elements = 32;  // Twice what this shard holds.
  problem.scalars.gradient_scale = 1;
  RunKernel(CpuKernels().adam_mini_step, args);
  EXPECT_FLOAT_EQ(problem.second_moment[0], 0.05 * 64 / 32);
}

TEST(CpuKernelsTest, EveryLevelHasTheBitsOfTheLowest) {
  const std::vector<const KernelTable*> tables = AttainableTables();
  ASSERT_FALSE(tables.empty());
  for (int64_t n : kSizes) {
    Problem before(3, 2, n);
    for (size_t level = 1; level < tables.size(); ++level) {
      Problem low = before;
      Problem high = before;
      RunKernel(tables[0]->row_sums, low.row_sums_args());
      RunKernel(tables[level]->row_sums, high.row_sums_args());
      EXPECT_EQ(low.row_sums, high.row_sums) << n;
      RunKernel(tables[0]->adam_mini_fused, low.adam_mini_args());
      RunKernel(tables[level]->adam_mini_fused, high.adam_mini_args());
      EXPECT_EQ(low.parameter, high.parameter) << n;
      EXPECT_EQ(low.momentum, high.momentum) << n;
      RunKernel(tables[0]->adamw, low.adamw_args());
      RunKernel(tables[level]->adamw, high.adamw_args());
      EXPECT_EQ(low.parameter, high.parameter) << n;
      EXPECT_EQ(low.second_moment, high.second_moment) << n;
      RunKernel(tables[0]->sgd, low.sgd_args());
      RunKernel(tables[level]->sgd, high.sgd_args());
      EXPECT_EQ(low.parameter, high.parameter) << n;
      EXPECT_EQ(low.momentum, high.momentum) << n;
    }
  }
}

TEST(CpuKernelsTest, AZeroRowIsOnlyDecayed) {
  Problem problem(2, 1, 37);
  for (int64_t i = 0; i < 37; ++i) {
    problem.gradient[i] = 0;
    problem.momentum[i] = 0;
  }
  problem.second_moment[0] = 0;
  const Problem before = problem;
  RunKernel(CpuKernels().adam_mini_fused, problem.adam_mini_args());
  const float decay = static_cast<float>(1 - 3e-3 * 0.1);
  for (int64_t i = 0; i < 37; ++i) {
    EXPECT_EQ(problem.parameter[i], before.parameter[i] * decay);
    EXPECT_EQ(problem.momentum[i], 0);
  }
  EXPECT_EQ(problem.second_moment[0], 0);
}

TEST(CpuKernelsTest, WithoutDecayAZeroRowDoesNotMove) {
  Problem problem(1, 1, 37);
  problem.scalars.weight_decay = 0;
  for (int64_t i = 0; i < 37; ++i) {
    problem.gradient[i] = 0;
    problem.momentum[i] = 0;
  }
  const Problem before = problem;
  RunKernel(CpuKernels().adam_mini_fused, problem.adam_mini_args());
  EXPECT_EQ(problem.parameter, before.parameter);
}

TEST(CpuKernelsTest, ANonFiniteGradientSpoilsItsOwnRowSumOnly) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (float bad : {infinity, -infinity, std::nanf("")}) {
    for (int64_t at : {0, 15, 16, 36}) {
      Problem problem(1, 3, 37);
      problem.gradient[37 + at] = bad;
      RunKernel(CpuKernels().row_sums, problem.row_sums_args());
      EXPECT_TRUE(std::isfinite(problem.row_sums[0])) << bad << " at " << at;
      EXPECT_FALSE(std::isfinite(problem.row_sums[1])) << bad << " at " << at;
      EXPECT_TRUE(std::isfinite(problem.row_sums[2])) << bad << " at " << at;
    }
  }
}

TEST(CpuKernelsTest, TheLargestGradientsHaveAFiniteRowSum) {
  Problem problem(1, 1, 1000);
  const float largest = std::numeric_limits<float>::max();
  for (int64_t i = 0; i < 1000; ++i) problem.gradient[i] = largest;
  RunKernel(CpuKernels().row_sums, problem.row_sums_args());
  EXPECT_TRUE(std::isfinite(problem.row_sums[0]));
}

TEST(CpuKernelsTest, AccumulateAddsElementByElement) {
  for (int64_t n : kSizes) {
    UnalignedFloats sum(1, n);
    const UnalignedFloats addend(2, n);
    const UnalignedFloats before = sum;
    RunKernel(CpuKernels().accumulate, {sum.data(), addend.data(), n});
    for (int64_t i = 0; i < n; ++i) {
      ASSERT_EQ(sum[i], before[i] + addend[i]) << i;
    }
  }
}

TEST(CpuKernelsTest, ClampMovesFiniteValuesToTheLimitAndLeavesTheRest) {
  const float infinity = std::numeric_limits<float>::infinity();
  const float largest = std::numeric_limits<float>::max();
  const float nan = std::nanf("");
  const std::vector<float> inputs = {
      0.0f, -0.0f,   1.5f,     -1.5f,    1.4999999f, -1.5000001f, 2,
      -2,   largest, -largest, infinity, -infinity,  nan,         1e-45f};
  const std::vector<float> expected = {
      0.0f,  -0.0f, 1.5f,  -1.5f,    1.4999999f, -1.5f, 1.5f,
      -1.5f, 1.5f,  -1.5f, infinity, -infinity,  nan,   1e-45f};
  const size_t size = inputs.size() * sizeof(float);
  for (const KernelTable* table : AttainableTables()) {
    std::vector<float> values = inputs;
    RunKernel(table->clamp, {values.data(), 14, 1.5f});
    EXPECT_EQ(std::memcmp(values.data(), expected.data(), size), 0);
  }
}

TEST(CpuKernelsTest, ClampAgreesWithReference) {
  for (int64_t n : kSizes) {
    UnalignedFloats actual(1, n);
    UnalignedFloats expected(1, n);
    RunKernel(CpuKernels().clamp, {actual.data(), n, 0.125f});
    RunKernel(ReferenceKernels().clamp, {expected.data(), n, 0.125f});
    EXPECT_EQ(actual, expected) << n;
  }
}

struct CopyKind {
  DType in;
  DType out;
};

// Copies a matrix of random bits on `kernels`; the bytes of all of `out`.
std::vector<char> Copied(const KernelTable& kernels, CopyKind kind,
                         int64_t rows, int64_t columns, bool transpose,
                         int64_t gap) {
  const int64_t in_stride = columns + gap;
  const int64_t out_stride = (transpose ? rows : columns) + gap;
  std::vector<uint16_t> in(rows * in_stride * SizeOf(kind.in) / 2 + 1);
  for (size_t i = 0; i < in.size(); ++i) {
    in[i] = static_cast<uint16_t>(RandomBits(1, i));
  }
  const int64_t out_rows = transpose ? columns : rows;
  std::vector<char> out(out_rows * out_stride * SizeOf(kind.out), 'x');
  RunKernel(kernels.copy, {in.data(), out.data(), rows, columns, in_stride,
                           out_stride, transpose, kind.in, kind.out});
  return out;
}

TEST(CpuKernelsTest, CopyAgreesWithReferenceAndLeavesTheGapsAlone) {
  const CopyKind kinds[] = {{DType::kFloat32, DType::kFloat32},
                            {DType::kBFloat16, DType::kBFloat16},
                            {DType::kFloat16, DType::kFloat16},
                            {DType::kBFloat16, DType::kFloat32},
                            {DType::kFloat16, DType::kFloat32}};
  const int64_t shapes[][2] = {{1, 1}, {3, 5}, {32, 32}, {33, 65}, {100, 7}};
  for (const CopyKind& kind : kinds) {
    for (const auto& [rows, columns] : shapes) {
      for (bool transpose : {false, true}) {
        for (int64_t gap : {0, 3}) {
          EXPECT_EQ(
              Copied(CpuKernels(), kind, rows, columns, transpose, gap),
              Copied(ReferenceKernels(), kind, rows, columns, transpose, gap))
              << static_cast<int>(kind.in) << static_cast<int>(kind.out) << " "
              << rows << "x" << columns << " " << gap;
        }
      }
    }
  }
}

TEST(CpuKernelsTest, CopyWidensOneAndAHalfOfBothKinds) {
  const uint16_t bf16 = 0x3fc0;
  const uint16_t fp16 = 0x3e00;
  float out = 0;
  RunKernel(CpuKernels().copy, {&bf16, &out, 1, 1, 1, 1, false,
                                DType::kBFloat16, DType::kFloat32});
  EXPECT_EQ(out, 1.5f);
  out = 0;
  RunKernel(CpuKernels().copy,
            {&fp16, &out, 1, 1, 1, 1, true, DType::kFloat16, DType::kFloat32});
  EXPECT_EQ(out, 1.5f);
}

TEST(CpuKernelsDeathTest, CopyRefusesToNarrow) {
  const float in = 1;
  uint16_t out = 0;
  const CopyArgs args = {
      &in, &out, 1, 1, 1, 1, false, DType::kFloat32, DType::kBFloat16};
  EXPECT_DEATH(RunKernel(CpuKernels().copy, args), "broken invariant");
}

TEST(CpuKernelsTest, TheChosenLevelIsTheBestAttainable) {
  const std::string level = CpuLevel();
  EXPECT_EQ(CpuKernelsAt(level.substr(0, level.find(' ')).c_str()),
            &CpuKernels());
  EXPECT_EQ(AttainableTables().back(), &CpuKernels());
}

TEST(CpuKernelsTest, AnUnknownLevelHasNoTable) {
  EXPECT_EQ(CpuKernelsAt("x86-64-v9"), nullptr);
}

}  // namespace
}  // namespace zeromini
