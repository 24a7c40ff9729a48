#include "kernels/rounding_sequence.h"

#include <bit>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/codec_inputs.h"
#include "tests/kernels/levels.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

using Bytes = std::vector<uint8_t>;

StepScalars AtStep(int64_t step) {
  StepScalars scalars;
  scalars.step = step;
  return scalars;
}

Bytes PackedWeights(const KernelTable& kernels, uint64_t seed,
                    const StepScalars* scalars) {
  Weights weights({DType::kBFloat16, MasterFormat::kNone}, FiniteFloats(2000));
  WeightCodecArgs args = weights.args(seed);
  args.scalars = scalars;
  RunKernel(kernels.pack_weights, args);
  return weights.weights.bytes();
}

Bytes PackedState(const KernelTable& kernels, uint64_t seed,
                  const StepScalars* scalars) {
  State state({StateFormat::kBFloat16, false}, FiniteFloats(2000), 100);
  StateCodecArgs args = state.args(seed);
  args.scalars = scalars;
  RunKernel(kernels.pack_state, args);
  return state.packed.bytes();
}

TEST(RoundingSequenceTest, WeightsAndStateRoundByBothSeedAndStep) {
  const StepScalars first = AtStep(1);
  const StepScalars second = AtStep(2);
  for (const auto& packed : {PackedWeights, PackedState}) {
    const std::set<Bytes> all = {
        packed(CpuKernels(), 3, &first), packed(CpuKernels(), 3, &second),
        packed(CpuKernels(), 4, &first), packed(CpuKernels(), 4, &second)};
    EXPECT_EQ(all.size(), 4u);
    EXPECT_EQ(all.count(packed(CpuKernels(), 3, &first)), 1u);
  }
}

TEST(RoundingSequenceTest, WithoutScalarsItIsStepZero) {
  const StepScalars zeroth = AtStep(0);
  for (const auto& packed : {PackedWeights, PackedState}) {
    EXPECT_EQ(packed(CpuKernels(), 3, nullptr),
              packed(CpuKernels(), 3, &zeroth));
  }
}

TEST(RoundingSequenceTest, EveryTableHasTheReferencesBitsAtAnyStep) {
  const StepScalars step = AtStep(123456789);
  for (const KernelTable* table : AttainableTables()) {
    for (const auto& packed : {PackedWeights, PackedState}) {
      EXPECT_EQ(packed(*table, 5, &step), packed(ReferenceKernels(), 5, &step));
    }
  }
}

// A mean of 32 for random ones; 8 standard deviations are 1.
TEST(RoundingSequenceTest, ABitOfSeedOrStepChangesHalfOfTheSequencesBits) {
  double by_seed = 0;
  double by_step = 0;
  for (int64_t i = 0; i < 1024; ++i) {
    const uint64_t seed = RandomBits(1, i);
    const uint64_t bit = uint64_t{1} << (i % 64);
    const uint64_t plain = RoundingSequence(seed, i);
    by_seed += std::popcount(plain ^ RoundingSequence(seed ^ bit, i));
    by_step += std::popcount(plain ^ RoundingSequence(seed, i + 1));
  }
  EXPECT_NEAR(by_seed / 1024, 32, 1);
  EXPECT_NEAR(by_step / 1024, 32, 1);
}

TEST(RoundingSequenceTest, NeighboursOfSeedsAndStepsShareNoSequence) {
  std::set<uint64_t> all;
  for (uint64_t seed = 0; seed < 100; ++seed) {
    for (int64_t step = 0; step < 100; ++step) {
      all.insert(RoundingSequence(seed, step));
    }
  }
  EXPECT_EQ(all.size(), 10000u);
}

}  // namespace
}  // namespace zeromini
