// The outputs' bits, as constants: whatever compiler and level run this test,
// they must be these.

#include <cstdint>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/exact_sum.h"
#include "tests/kernels/codec_inputs.h"
#include "tests/kernels/coded_arrays.h"
#include "tests/kernels/factored_inputs.h"
#include "tests/kernels/inputs.h"
#include "tests/kernels/run_kernel.h"
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

template <typename Element>
uint64_t Hash(const std::vector<Element>& values) {
  return Hash(values.data(), values.size() * sizeof(Element));
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
  RunKernel(kernels_->row_sums, problem.row_sums_args());
  EXPECT_EQ(Hash(problem.row_sums), 0xda97527148600eb2u);
}

TEST_P(KernelBitsTest, AdamMiniStep) {
  Problem problem = Input();
  RunKernel(kernels_->row_sums, problem.row_sums_args());
  for (int b = 0; b < 5; ++b) {
    problem.block_sums[b] = BlockSum(problem.row_sums.data() + 7 * b, 7);
  }
  RunKernel(kernels_->adam_mini_step, problem.adam_mini_args());
  EXPECT_EQ(Hash(problem.parameter), 0x393391aff726dc7bu);
  EXPECT_EQ(Hash(problem.momentum), 0x60cda89b4ed05c3au);
  EXPECT_EQ(Hash(problem.second_moment), 0x30b56e7f1353e276u);
}

TEST_P(KernelBitsTest, AdamMiniFused) {
  Problem problem = Input();
  RunKernel(kernels_->adam_mini_fused, problem.adam_mini_args());
  EXPECT_EQ(Hash(problem.parameter), 0x393391aff726dc7bu);
  EXPECT_EQ(Hash(problem.momentum), 0x60cda89b4ed05c3au);
  EXPECT_EQ(Hash(problem.second_moment), 0x30b56e7f1353e276u);
}

TEST_P(KernelBitsTest, AdamW) {
  Problem problem = Input();
  RunKernel(kernels_->adamw, problem.adamw_args());
  EXPECT_EQ(Hash(problem.parameter), 0x945f3be5b2d8c926u);
  EXPECT_EQ(Hash(problem.momentum), 0x60cda89b4ed05c3au);
  EXPECT_EQ(Hash(problem.second_moment), 0x8a94e6f130454d55u);
}

TEST_P(KernelBitsTest, Sgd) {
  Problem problem = Input();
  RunKernel(kernels_->sgd, problem.sgd_args());
  EXPECT_EQ(Hash(problem.parameter), 0x25b9bee3dca5fe55u);
  EXPECT_EQ(Hash(problem.momentum), 0x45bd0bc7e6ce10cau);
}

TEST_P(KernelBitsTest, Factored) {
  Factored problem(35, 1003);
  problem.Step(*kernels_);
  EXPECT_EQ(Hash(problem.agreed.tops), 0x3b76149862e7ee2au);
  EXPECT_EQ(Hash(problem.agreed.words), 0xaf8e8c4255c64709u);
  EXPECT_EQ(Hash(problem.moments), 0x635b89a2d8220cfeu);
  EXPECT_EQ(Hash(problem.factors), 0x7b5d989b382b7d47u);
  EXPECT_EQ(Hash(problem.row_moments), 0x59d9d531683c458eu);
  EXPECT_EQ(Hash(problem.parameter), 0x4fb2006f9970d437u);
  EXPECT_EQ(Hash(problem.momentum), 0x60cda89b4ed05c3au);
}

struct WeightHashes {
  WeightKind kind;
  uint64_t weights;
  uint64_t master;
  uint64_t restored;
};

TEST_P(KernelBitsTest, Weights) {
  const WeightHashes kinds[] = {
      {{DType::kBFloat16, MasterFormat::kNone},
       0x14a18c92ced0efa1u,
       0xcbf29ce484222325u,
       0xfd73f9aaff27df8du},
      {{DType::kBFloat16, MasterFormat::kFloat32},
       0xae58ea8519d7ea8du,
       0x25c9720c5b71d7edu,
       0x5dea25a0e1355a8du},
      {{DType::kBFloat16, MasterFormat::kRemainder16},
       0xae58ea8519d7ea8du,
       0x700d3250b80ad2bau,
       0x5dea25a0e1355a8du},
      {{DType::kBFloat16, MasterFormat::kRemainder8},
       0xae58ea8519d7ea8du,
       0xce3c20db70ae471au,
       0xa56fbde26ceb7ea6u},
      {{DType::kFloat16, MasterFormat::kNone},
       0x7e0e6d77a6fc8164u,
       0xcbf29ce484222325u,
       0x0b89b92c42dd3f89u},
      {{DType::kFloat16, MasterFormat::kFloat32},
       0x7e0e6d77a6fc8164u,
       0x25c9720c5b71d7edu,
       0x5dea25a0e1355a8du},
  };
  for (const WeightHashes& expected : kinds) {
    Weights weights(expected.kind, FiniteFloats(10000));
    RunKernel(kernels_->pack_weights, weights.args(42, 1000));
    EXPECT_EQ(Hash(weights.weights.bytes()), expected.weights);
    EXPECT_EQ(Hash(weights.master.bytes()), expected.master);
    RunKernel(kernels_->unpack_weights, weights.args());
    EXPECT_EQ(Hash(weights.unpacked), expected.restored);
  }
}

struct StateHashes {
  StateKind kind;
  uint64_t packed;
  uint64_t scales;
  uint64_t restored;
};

TEST_P(KernelBitsTest, State) {
  const StateHashes kinds[] = {
      {{StateFormat::kBFloat16, false},
       0x0f3a9f8148c118a0u,
       0x0d37e3aa3d65c951u,
       0x05a52bdeddad3df8u},
      {{StateFormat::kInt8, false},
       0x678dcaeb14721ba2u,
       0xf20999d6c0e17c0du,
       0xdbc6d278142a2a73u},
      {{StateFormat::kInt8, true},
       0x724fd5f2af2b80cfu,
       0xf20999d6c0e17c0du,
       0x3855fcb2339ffa1cu},
  };
  std::vector<float> values;
  for (int64_t i = 0; i < 20 * 1003; ++i) values.push_back(RandomFloat(6, i));
  for (const StateHashes& expected : kinds) {
    State state(expected.kind, values, 1003);
    RunKernel(kernels_->pack_state, state.args(42, 1000));
    EXPECT_EQ(Hash(state.packed.bytes()), expected.packed);
    EXPECT_EQ(Hash(state.scales.bytes()), expected.scales);
    RunKernel(kernels_->unpack_state, state.args());
    EXPECT_EQ(Hash(state.unpacked), expected.restored);
  }
}

// All formats of each rule in one hash.
uint64_t HashOfCodedUpdates(const KernelTable& kernels, UpdateRule rule) {
  std::vector<uint8_t> stored;
  for (WeightKind weights : kWeightKinds) {
    for (StateFormat state : kStateFormats) {
      CodedCase c = {rule, weights, state};
      c.blocks = 3;
      c.block_rows = 2;
      c.row_elements = 1003;
      c.first_element = 1000;
      CodedArrays arrays(c);
      RunKernel(kernels.coded_update, arrays.args());
      for (const std::vector<uint8_t>& bytes : arrays.stored()) {
        stored.insert(stored.end(), bytes.begin(), bytes.end());
      }
    }
  }
  return Hash(stored);
}

TEST_P(KernelBitsTest, CodedUpdates) {
  EXPECT_EQ(HashOfCodedUpdates(*kernels_, UpdateRule::kAdamMini),
            0x590d6b69b743c248u);
  EXPECT_EQ(HashOfCodedUpdates(*kernels_, UpdateRule::kAdamW),
            0x1e0aab45c6d38827u);
  EXPECT_EQ(HashOfCodedUpdates(*kernels_, UpdateRule::kSgd),
            0x920cb94a16a39276u);
  EXPECT_EQ(HashOfCodedUpdates(*kernels_, UpdateRule::kFactored),
            0xb137f232fc99c9e5u);
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
