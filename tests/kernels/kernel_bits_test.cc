// The outputs' bits, as constants: whatever compiler and level run this test,
// they must be these.

#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/exact_sum.h"
#include "tests/kernels/inputs.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

// FNV-1a.
uint64_t Hash(const void* data, size_t bytes) {
  const unsigned char* byte = static_cast<const unsigned char*>(data);
  uint64_t hash = 0xcbf29ce484222325;
  for (size_t i = 0; i < bytes; ++i) hash = (hash ^ byte[i]) * 0x100000001b3;
  return hash;
}

uint64_t Hash(const UnalignedFloats& values) {
  return Hash(values.data(), values.size() * sizeof(float));
}

uint64_t Hash(const std::vector<double>& values) {
  return Hash(values.data(), values.size() * sizeof(double));
}

Problem Input() { return Problem(5, 7, 1003); }

class KernelBitsTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    kernels_ = CpuKernelsAt(GetParam());
    if (kernels_ == nullptr) GTEST_SKIP() << "no " << GetParam() << " here";
  }

  const KernelTable* kernels_ = nullptr;
};

TEST_P(KernelBitsTest, InputIsTheOneTheseHashesAreOf) {
  EXPECT_EQ(Hash(Input().gradient), 0x9e3f2727908961b3u);
}

TEST_P(KernelBitsTest, RowSums) {
  Problem problem = Input();
  kernels_->row_sums(problem.row_sums_args(), Stream{});
  EXPECT_EQ(Hash(problem.row_sums), 0xda97527148600eb2u);
}

TEST_P(KernelBitsTest, AdamMiniStep) {
  Problem problem = Input();
  kernels_->row_sums(problem.row_sums_args(), Stream{});
  for (int b = 0; b < 5; ++b) {
    problem.block_sums[b] = BlockSum(problem.row_sums.data() + 7 * b, 7);
  }
  kernels_->adam_mini_step(problem.adam_mini_args(), Stream{});
  EXPECT_EQ(Hash(problem.parameter), 0x393391aff726dc7bu);
  EXPECT_EQ(Hash(problem.momentum), 0x60cda89b4ed05c3au);
  EXPECT_EQ(Hash(problem.second_moment), 0x30b56e7f1353e276u);
}

TEST_P(KernelBitsTest, AdamMiniFused) {
  Problem problem = Input();
  kernels_->adam_mini_fused(problem.adam_mini_args(), Stream{});
  EXPECT_EQ(Hash(problem.parameter), 0x393391aff726dc7bu);
  EXPECT_EQ(Hash(problem.momentum), 0x60cda89b4ed05c3au);
  EXPECT_EQ(Hash(problem.second_moment), 0x30b56e7f1353e276u);
}

TEST_P(KernelBitsTest, AdamW) {
  Problem problem = Input();
  kernels_->adamw(problem.adamw_args(), Stream{});
  EXPECT_EQ(Hash(problem.parameter), 0x945f3be5b2d8c926u);
  EXPECT_EQ(Hash(problem.momentum), 0x60cda89b4ed05c3au);
  EXPECT_EQ(Hash(problem.second_moment), 0x8a94e6f130454d55u);
}

INSTANTIATE_TEST_SUITE_P(Levels, KernelBitsTest,
                         testing::Values("portable", "x86-64", "x86-64-v3",
                                         "x86-64-v4"),
                         [](const auto& level) {
                           std::string name = level.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace zeromini
