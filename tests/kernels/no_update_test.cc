// What is given scalars whose `update` is 0 must not write at all.

#include <cmath>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/codec_inputs.h"
#include "tests/kernels/factored_inputs.h"
#include "tests/kernels/levels.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

std::vector<const KernelTable*> AllTables() {
  std::vector<const KernelTable*> tables = AttainableTables();
  tables.push_back(&ReferenceKernels());
  return tables;
}

StepScalars NoUpdate() {
  StepScalars scalars = TypicalScalars();
  scalars.update = 0;
  return scalars;
}

void ExpectEqual(const Problem& actual, const Problem& expected) {
  EXPECT_EQ(actual.parameter, expected.parameter);
  EXPECT_EQ(actual.momentum, expected.momentum);
  EXPECT_EQ(actual.second_moment, expected.second_moment);
}

TEST(NoUpdateTest, NoUpdateKernelMovesWeightsOrState) {
  Problem before(3, 2, 37);
  before.scalars.update = 0;
  for (const KernelTable* table : AllTables()) {
    Problem problem = before;
    RunKernel(table->adam_mini_step, problem.adam_mini_args());
    ExpectEqual(problem, before);
    RunKernel(table->adam_mini_fused, problem.adam_mini_args());
    ExpectEqual(problem, before);
    RunKernel(table->adamw, problem.adamw_args());
    ExpectEqual(problem, before);
    RunKernel(table->sgd, problem.sgd_args());
    ExpectEqual(problem, before);
  }
}

TEST(NoUpdateTest, FactoredSecondMomentsStay) {
  for (const KernelTable* table : AllTables()) {
    Factored problem(5, 37);
    const Factored before = problem;
    problem.scalars.update = 0;
    problem.Step(*table);
    EXPECT_EQ(problem.parameter, before.parameter);
    EXPECT_EQ(problem.momentum, before.momentum);
    EXPECT_EQ(problem.row_moments, before.row_moments);
    EXPECT_EQ(problem.moments, before.moments);
    EXPECT_EQ(problem.factors, before.factors);
  }
}

TEST(NoUpdateTest, ScalarsAreReadWhenTheKernelRuns) {
  for (const KernelTable* table : AllTables()) {
    Problem problem(3, 2, 37);
    const Problem before = problem;
    const AdamWArgs args = problem.adamw_args();
    problem.scalars.update = 0;
    RunKernel(table->adamw, args);
    ExpectEqual(problem, before);
    problem.scalars.update = 1;
    RunKernel(table->adamw, args);
    EXPECT_FALSE(problem.parameter == before.parameter);
  }
}

TEST(NoUpdateTest, NothingIsCopiedWhereOnlyIfDoesNotUpdate) {
  const StepScalars stop = NoUpdate();
  const StepScalars go = TypicalScalars();
  for (const KernelTable* table : AllTables()) {
    const float in = 3;
    float out = 5;
    CopyArgs args = {&in, &out, 1, 1, 1, 1, false};
    args.only_if = &stop;
    RunKernel(table->copy, args);
    EXPECT_EQ(out, 5);
    args.only_if = &go;
    RunKernel(table->copy, args);
    EXPECT_EQ(out, 3);
  }
}

TEST(NoUpdateTest, WeightsAreNeitherPackedNorUnpacked) {
  const StepScalars stop = NoUpdate();
  for (const KernelTable* table : AllTables()) {
    for (WeightKind kind : kWeightKinds) {
      Weights weights(kind, FiniteFloats(100));
      const Weights before = weights;
      WeightCodecArgs args = weights.args();
      args.scalars = &stop;
      RunKernel(table->pack_weights, args);
      RunKernel(table->unpack_weights, args);
      EXPECT_EQ(weights.weights.bytes(), before.weights.bytes());
      EXPECT_EQ(weights.master.bytes(), before.master.bytes());
      EXPECT_EQ(Bits(weights.unpacked), Bits(before.unpacked));
    }
  }
}

TEST(NoUpdateTest, StateIsNeitherPackedNorUnpacked) {
  const StepScalars stop = NoUpdate();
  for (const KernelTable* table : AllTables()) {
    for (StateKind kind : kStateKinds) {
      State state(kind, FiniteFloats(100), 50);
      const State before = state;
      StateCodecArgs args = state.args();
      args.scalars = &stop;
      RunKernel(table->pack_state, args);
      RunKernel(table->unpack_state, args);
      EXPECT_EQ(state.packed.bytes(), before.packed.bytes());
      EXPECT_EQ(state.scales.bytes(), before.scales.bytes());
      EXPECT_EQ(Bits(state.unpacked), Bits(before.unpacked));
    }
  }
}

}  // namespace
}  // namespace zeromini
