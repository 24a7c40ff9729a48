// Options that must be equal on all ranks: each that is not is found, on every
// rank, by its name.

#include <functional>
#include <limits>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;

struct OddOption {
  const char* named;  // What the error says.
  std::function<void(OptimizerOptions*)> change;
};

// Every field of OptimizerOptions and HyperGroup but names, ways to join (what
// comes of them is compared) and the sink.
const OddOption kOddOptions[] = {
    {"algorithm is adamw", [](auto* o) { o->algorithm = Algorithm::kAdamW; }},
    {"stage is 2", [](auto* o) { o->stage = 2; }},
    {"reduction is mean", [](auto* o) { o->reduction = Reduction::kMean; }},
    {"max_grad_norm is 3", [](auto* o) { o->max_grad_norm = 3; }},
    {"max_grad_value is 3", [](auto* o) { o->max_grad_value = 3; }},
    {"non_finite is ignore",
     [](auto* o) { o->non_finite = NonFiniteGradients::kIgnore; }},
    {"non_finite is skip",
     [](auto* o) { o->non_finite = NonFiniteGradients::kSkip; }},
    {"skip_above_grad_norm is 3", [](auto* o) { o->skip_above_grad_norm = 3; }},
    {"absent_gradients is skip",
     [](auto* o) { o->absent_gradients = AbsentGradients::kSkip; }},
    {"micro_steps is 2", [](auto* o) { o->micro_steps = 2; }},
    {"memory is external", [](auto* o) { o->memory = MemoryForm::kExternal; }},
    {"gradient_wire is bf16",
     [](auto* o) { o->gradient_wire = DType::kBFloat16; }},
    {"weight_wire is bf16", [](auto* o) { o->weight_wire = DType::kBFloat16; }},
    {"master is remainder8",
     [](auto* o) { o->master = MasterFormat::kRemainder8; }},
    {"state is int8", [](auto* o) { o->state = StateFormat::kInt8; }},
    {"gather_budget_bytes is 5", [](auto* o) { o->gather_budget_bytes = 5; }},
    {"prefetch is 2", [](auto* o) { o->prefetch = 2; }},
    {"shard_ranks is 1", [](auto* o) { o->shard_ranks = 1; }},
    {"hidden is 8", [](auto* o) { o->model.hidden = 8; }},
    {"heads is 2", [](auto* o) { o->model.heads = 2; }},
    {"kv_heads is 2", [](auto* o) { o->model.kv_heads = 2; }},
    {"head_dim is 4", [](auto* o) { o->model.head_dim = 4; }},
    {"naming is official", [](auto* o) { o->naming = Naming::kOfficial; }},
    {"value_blocks is whole",
     [](auto* o) { o->value_blocks = ValueBlocks::kWhole; }},
    {"second_moment is factored",
     [](auto* o) { o->second_moment = SecondMoment::kFactored; }},
    {"blocks is split at cuts",
     [](auto* o) { o->blocks = BlockCuts::kSplitAtCuts; }},
    {"bucketing is by layer",
     [](auto* o) { o->bucketing = Bucketing::kByLayer; }},
    {"buffer_budget_bytes is 4096",
     [](auto* o) { o->buffer_budget_bytes = 4096; }},
    {"copy_cost is 0.5", [](auto* o) { o->copy_cost = 0.5; }},
    {"collective_cost_bytes is 4096",
     [](auto* o) { o->collective_cost_bytes = 4096; }},
    {"bucket_bytes is 4096", [](auto* o) { o->bucket_bytes = 4096; }},
    {"kernels is reference",
     [](auto* o) { o->kernels = KernelChoice::kReference; }},
    {"hyper group 1: algorithm is sgd",
     [](auto* o) { o->hyper_groups[1].algorithm = Algorithm::kSgd; }},
    {"hyper group 1: learning_rate_scale is 2",
     [](auto* o) { o->hyper_groups[1].learning_rate_scale = 2; }},
    {"hyper group 1: weight_decay is 0.125",
     [](auto* o) { o->hyper_groups[1].weight_decay = 0.125; }},
    {"hyper group 1: beta1 is 0.5",
     [](auto* o) { o->hyper_groups[1].beta1 = 0.5; }},
    {"hyper group 1: beta2 is 0.5",
     [](auto* o) { o->hyper_groups[1].beta2 = 0.5; }},
    {"hyper group 1: epsilon is 0.5",
     [](auto* o) { o->hyper_groups[1].epsilon = 0.5; }},
    {"hyper group 1: decay_norms_and_biases is 1",
     [](auto* o) { o->hyper_groups[1].decay_norms_and_biases = true; }},
    {"hyper_groups is 3", [](auto* o) { o->hyper_groups.emplace_back(); }},
};

// On three ranks, with rank 1's changed.
std::vector<absl::Status> CreateWithOdd(const OddOption& odd) {
  std::vector<absl::Status> statuses(3);
  RunRanks(3, [&](int rank, Communicator& group) {
    Replica replica({Spec("weight", {12, 8}, BlockRule::Rows(), -1)});
    OptimizerOptions options = ExactOptions();
    options.memory = MemoryForm::kFlat;
    options.hyper_groups.emplace_back();
    if (rank == 1) odd.change(&options);
    statuses[rank] = MakeOptimizer(options, replica.specs(), group).status();
  });
  return statuses;
}

TEST(AgreementTest, EachOptionThatDiffersOnARankIsNamedOnAllRanks) {
  for (const OddOption& odd : kOddOptions) {
    for (const absl::Status& status : CreateWithOdd(odd)) {
      EXPECT_THAT(
          status,
          StatusIs(kInvalid,
                   AllOf(HasSubstr("rank 1 has the same parameters as rank 0 "
                                   "but other optimizer options: "),
                         HasSubstr(odd.named), HasSubstr("on rank 0"))))
          << odd.named;
    }
  }
}

TEST(AgreementTest, ExpertSlicesThatDifferAreNamed) {
  RunRanks(4, [](int rank, Communicator& group) {
    Replica replica({Spec("weight", {12, 8}, BlockRule::Rows(), -1)});
    OptimizerOptions options = ExactOptions();
    options.shard_ranks = 1;
    options.expert_slices = rank == 3 ? 4 : 2;
    EXPECT_THAT(MakeOptimizer(options, replica.specs(), group),
                StatusIs(kInvalid, HasSubstr("expert_slices is 4 on rank 3 but "
                                             "2 on rank 0")));
  });
}

TEST(AgreementTest, NumbersThatDifferInTheLastBitAreFound) {
  const OddOption odd = {"beta2 is 0.95000000000000007", [](auto* o) {
                           o->hyper_groups[0].beta2 = 0.95000000000000007;
                         }};
  for (const absl::Status& status : CreateWithOdd(odd)) {
    EXPECT_THAT(status, StatusIs(kInvalid, HasSubstr(odd.named)));
  }
}

TEST(AgreementTest, BlockRulesThatDifferAreNamedAsSuch) {
  RunRanks(2, [](int rank, Communicator& group) {
    const BlockRule rule = rank == 1 ? BlockRule::Whole() : BlockRule::Rows();
    Replica replica({Spec("weight", {12, 8}, rule, -1)});
    EXPECT_THAT(
        MakeOptimizer(ExactOptions(), replica.specs(), group),
        StatusIs(
            kInvalid,
            HasSubstr("parameter 0 is 'weight' [12,8] fp32, other, "
                      "group 0, layer -1, layer set -2, 1 "
                      "blocks (12 rows by 12, whole, blocks) on rank 1 but ")));
  });
}

// As many scalars on each rank, so their number does not tell.
TEST(AgreementTest, FormsOfSecondMomentsThatDifferAreNamedAsSuch) {
  RunRanks(2, [](int rank, Communicator& group) {
    const BlockRule rule = rank == 1 ? BlockRule::Columns() : BlockRule::Rows();
    Replica replica({Spec("weight", {8, 8}, rule, -1)});
    EXPECT_THAT(
        MakeOptimizer(ExactOptions(), replica.specs(), group),
        StatusIs(kInvalid, AllOf(HasSubstr("parameter 0"),
                                 HasSubstr("'weight'"), HasSubstr("columns"))));
  });
}

TEST(AgreementTest, FormsOfFusedSegmentsThatDifferAreNamedAsSuch) {
  RunRanks(2, [](int rank, Communicator& group) {
    const MomentForm a = MomentForm::kFactored, b = MomentForm::kBlocks;
    const auto segment = [](MomentForm form) {
      return BlockSegment{4, 1, BlockKind::kRow, form};
    };
    const BlockRule rule = BlockRule::Fused(
        {segment(rank == 1 ? a : b), segment(rank == 1 ? b : a)});
    Replica replica({Spec("weight", {8, 8}, rule, -1)});
    EXPECT_THAT(MakeOptimizer(ExactOptions(), replica.specs(), group),
                StatusIs(kInvalid,
                         AllOf(HasSubstr("parameter 0"), HasSubstr("'weight'"),
                               HasSubstr("factored"))));
  });
}

TEST(AgreementTest, FormsOfSecondMomentsThatDifferAreFound) {
  const std::vector<BlockRule> rules = {
      BlockRule::Rows(), BlockRule::Factored(), BlockRule::Columns(),
      BlockRule::Fused({{6, 1}, {6, 1, {}, MomentForm::kFactored}}),
      BlockRule::Fused({{6, 1, {}, MomentForm::kFactored}, {6, 1}})};
  for (size_t i = 1; i < rules.size(); ++i) {
    RunRanks(2, [&](int rank, Communicator& group) {
      Replica replica({Spec("weight", {12, 8}, rules[i - rank], -1)});
      EXPECT_THAT(MakeOptimizer(ExactOptions(), replica.specs(), group),
                  StatusIs(kInvalid, HasSubstr("rank 1")))
          << i;
    });
  }
}

struct OddStep {
  const char* named;  // What the error says.
  std::function<void(StepOptions*, HyperGroup*)> change;
};

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

const OddStep kOddSteps[] = {
    {"learning_rate is 0.25 on ranks 1, 2 but 0.5 on rank 0",
     [](auto* step, auto*) { step->learning_rate = 0.25; }},
    {"learning_rate is not given (NaN) on ranks 1, 2 but 0.5 on rank 0",
     [](auto* step, auto*) { step->learning_rate = kNan; }},
    {"loss_scale is 2 on ranks 1, 2 but 1 on rank 0",
     [](auto* step, auto*) { step->loss_scale = 2; }},
    {"loss_scale is NaN on ranks 1, 2 but 1 on rank 0",
     [](auto* step, auto*) { step->loss_scale = kNan; }},
    {"group 0: learning_rate_scale is 2 on ranks 1, 2 but 1 on rank 0",
     [](auto*, auto* group) { group->learning_rate_scale = 2; }},
    {"group 0: weight_decay is 0.25 on ranks 1, 2 but 0.5 on rank 0",
     [](auto*, auto* group) { group->weight_decay = 0.25; }},
    {"group 0: beta1 is 0.5 on ranks 1, 2 but 0.25 on rank 0",
     [](auto*, auto* group) { group->beta1 = 0.5; }},
    {"group 0: beta2 is 0.25 on ranks 1, 2 but 0.5 on rank 0",
     [](auto*, auto* group) { group->beta2 = 0.25; }},
    {"group 0: epsilon is 0.25 on ranks 1, 2 but 0.5 on rank 0",
     [](auto*, auto* group) { group->epsilon = 0.25; }},
    {"group 0: decay_norms_and_biases is 1 on ranks 1, 2 but 0 on rank 0",
     [](auto*, auto* group) { group->decay_norms_and_biases = true; }},
};

TEST(AgreementTest, WhatDiffersInAStepIsNamedWithRanksAndBothValues) {
  RunRanks(4, [&](int rank, Communicator& group) {
    Replica replica({Spec("weight", {12, 8}, BlockRule::Rows(), -1)});
    OptimizerOptions options = ExactOptions();
    options.hyper_groups[0].weight_decay = 0.5;
    options.hyper_groups[0].beta1 = 0.25;
    options.hyper_groups[0].beta2 = 0.5;
    options.hyper_groups[0].epsilon = 0.5;
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(options, replica.specs(), group));
    for (const OddStep& odd : kOddSteps) {
      StepOptions step;
      step.learning_rate = 0.5;
      HyperGroup changed = options.hyper_groups[0];
      if (rank == 1 || rank == 2) odd.change(&step, &changed);
      ASSERT_OK(optimizer->SetHyperGroup(0, changed));
      const std::vector<float> ones(12 * 8, 1.0f);
      ASSERT_OK(optimizer->GradReady(0, ones.data()));
      EXPECT_THAT(
          optimizer->Step(step),
          StatusIs(kInvalid, AllOf(HasSubstr("ranks disagree on the learning "
                                             "rate, loss scale or "
                                             "hyper-parameters of step 1: "),
                                   HasSubstr(odd.named),
                                   HasSubstr("nothing was updated"))));
      EXPECT_EQ(replica.Home(0)[5], InitialWeight(0, 5));
    }
  });
}

}  // namespace
}  // namespace zeromini
