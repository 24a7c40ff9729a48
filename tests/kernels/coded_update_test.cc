// The coded update in one pass has the bits of unpacking, updating and packing.

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "tests/kernels/coded_arrays.h"
#include "tests/kernels/levels.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

std::vector<const KernelTable*> AllTables() {
  std::vector<const KernelTable*> tables = AttainableTables();
  tables.push_back(&ReferenceKernels());
  return tables;
}

// Calls visit(case) for all formats and rules of what `shape` says.
template <typename Visit>
void ForEachForm(const CodedCase& shape, Visit visit) {
  CodedCase c = shape;
  for (UpdateRule rule : kUpdateRules) {
    for (WeightKind weights : kWeightKinds) {
      for (StateFormat state : kStateFormats) {
        c.rule = rule;
        c.weights = weights;
        c.state = state;
        visit(c);
      }
    }
  }
}

void ExpectOnePassIsFive(const KernelTable& table, const CodedCase& c) {
  SCOPED_TRACE(NameOf(c));
  CodedArrays five(c);
  CodedArrays one(c);
  const auto before = one.stored();
  UnpackUpdatePack(table, five);
  RunKernel(table.coded_update, one.args());
  EXPECT_EQ(one.stored(), five.stored());
  EXPECT_NE(one.stored(), before);
}

void ExpectOnePassIsFive(const CodedCase& shape) {
  for (const KernelTable* table : AllTables()) {
    ForEachForm(shape,
                [&](const CodedCase& c) { ExpectOnePassIsFive(*table, c); });
  }
}

TEST(CodedUpdateTest, RowsOfAnyLengthHaveTheBitsOfFiveKernels) {
  for (int64_t n : {1, 15, 31, 32, 33, 64, 95, 4096}) {
    CodedCase shape;
    shape.blocks = 2;
    shape.block_rows = n < 4096 ? 3 : 1;
    shape.row_elements = n;
    shape.first_element = 1000 + 7 * n;
    ExpectOnePassIsFive(shape);
  }
}

TEST(CodedUpdateTest, EveryBlockHasItsOwnStep) {
  for (int64_t rows : {1, 2, 5}) {
    CodedCase shape;
    shape.blocks = 7;
    shape.block_rows = rows;
    shape.row_elements = 45;
    ExpectOnePassIsFive(shape);
  }
}

TEST(CodedUpdateTest, OfASplitBlockTheMeanIsOverTheWholeBlock) {
  CodedCase shape;
  shape.block_rows = 3;
  shape.row_elements = 70;
  shape.first_element = 123456;
  shape.other_blocks_elements = 5 * 70;
  ExpectOnePassIsFive(shape);
}

CodedUpdateArgs WithoutRowMoments(CodedUpdateArgs args) {
  args.row_moments = nullptr;
  args.row_sums = nullptr;
  return args;
}

TEST(CodedUpdateTest, MatricesWithoutRowMomentsHaveColumnsAlone) {
  CodedCase shape;
  shape.rule = UpdateRule::kFactored;
  shape.block_rows = 3;
  for (int64_t n : {5, 32, 133}) {
    shape.row_elements = n;
    ForEachForm(shape, [](const CodedCase& c) {
      if (c.rule != UpdateRule::kFactored) return;
      SCOPED_TRACE(NameOf(c));
      for (const KernelTable* table : AllTables()) {
        CodedArrays five(c);
        CodedArrays one(c);
        UnpackUpdatePack(*table, five, WithoutRowMoments(five.args()));
        RunKernel(table->coded_update, WithoutRowMoments(one.args()));
        EXPECT_EQ(one.stored(), five.stored());
      }
    });
  }
}

TEST(CodedUpdateTest, RandomNumbersGoOnBeyondTwoToThe32) {
  CodedCase shape;
  shape.block_rows = 2;
  shape.row_elements = 96;
  for (int64_t before : {1, 31, 32, 100, 192}) {
    shape.first_element = (int64_t{3} << 32) - before;
    ExpectOnePassIsFive(shape);
  }
}

TEST(CodedUpdateTest, EveryLevelHasTheSameBits) {
  CodedCase shape;
  shape.blocks = 3;
  shape.block_rows = 2;
  shape.row_elements = 133;
  ForEachForm(shape, [](const CodedCase& c) {
    SCOPED_TRACE(NameOf(c));
    const std::vector<const KernelTable*> tables = AttainableTables();
    CodedArrays lowest(c);
    RunKernel(tables[0]->coded_update, lowest.args());
    for (const KernelTable* table : tables) {
      CodedArrays arrays(c);
      RunKernel(table->coded_update, arrays.args());
      EXPECT_EQ(arrays.stored(), lowest.stored());
    }
  });
}

// Rows of all kinds of momenta: empty groups, subnormal and huge scales.
TEST(CodedUpdateTest, MomentaOfAnyScaleHaveTheBitsOfFiveKernels) {
  CodedCase c;
  c.weights = {DType::kBFloat16, MasterFormat::kRemainder8};
  c.state = StateFormat::kInt8;
  c.block_rows = 255;
  c.row_elements = 64;
  for (const KernelTable* table : AllTables()) {
    for (UpdateRule rule : kUpdateRules) {
      c.rule = rule;
      CodedArrays five(c);
      for (int64_t i = 0; i < c.elements(); ++i) {
        const auto exponent = static_cast<uint32_t>(i / c.row_elements);
        const float scale = FloatFromBits(exponent << 23);
        five.momentum.unpacked[i] = scale * RandomFloat(31, i) / 8;
        five.second_moment.unpacked[i] =
            scale * std::abs(RandomFloat(32, i)) / 8;
        five.gradient[i] = i % 5 == 0 ? 0 : scale * RandomFloat(33, i) / 8;
      }
      RunKernel(ReferenceKernels().pack_state, five.momentum.args());
      RunKernel(ReferenceKernels().pack_state, five.second_moment.args());
      CodedArrays one = five;
      UnpackUpdatePack(*table, five);
      RunKernel(table->coded_update, one.args());
      EXPECT_EQ(one.stored(), five.stored()) << NameOf(c) << table->name;
    }
  }
}

TEST(CodedUpdateTest, OnlyAdamWLooksForSecondMoments) {
  CodedCase shape;
  shape.block_rows = 2;
  shape.row_elements = 37;
  for (const KernelTable* table : AllTables()) {
    ForEachForm(shape, [&](const CodedCase& c) {
      if (c.rule == UpdateRule::kAdamW) return;
      CodedArrays five(c);
      CodedArrays one(c);
      UnpackUpdatePack(*table, five);
      CodedUpdateArgs args = one.args();
      args.second_moment = args.momentum;
      RunKernel(table->coded_update, args);
      EXPECT_EQ(one.stored(), five.stored()) << NameOf(c);
    });
  }
}

TEST(CodedUpdateTest, NothingIsWrittenWhereUpdateIsZero) {
  CodedCase shape;
  shape.block_rows = 2;
  shape.row_elements = 37;
  for (const KernelTable* table : AllTables()) {
    ForEachForm(shape, [&](const CodedCase& c) {
      CodedArrays arrays(c);
      arrays.scalars.update = 0;
      const auto before = arrays.stored();
      RunKernel(table->coded_update, arrays.args());
      EXPECT_EQ(arrays.stored(), before) << NameOf(c);
    });
  }
}

TEST(CodedUpdateTest, NoRowsAreNoWork) {
  CodedCase shape;
  shape.blocks = 0;
  for (const KernelTable* table : AllTables()) {
    ForEachForm(shape, [&](const CodedCase& c) {
      CodedArrays arrays(c);
      const auto before = arrays.stored();
      RunKernel(table->coded_update, arrays.args());
      EXPECT_EQ(arrays.stored(), before) << NameOf(c);
    });
  }
}

}  // namespace
}  // namespace zeromini
