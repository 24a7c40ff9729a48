// The optimizer over MPI: the bits of one rank, and errors on every rank.

#include <cmath>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"
#include "support/mpi_session.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

TEST(MpiTrainingTest, TheWorldGivesTheBitsOfOneRank) {
  for (Algorithm algorithm : {Algorithm::kAdamMini, Algorithm::kAdamW}) {
    TrainingCase one;
    one.options = ExactOptions();
    one.options.algorithm = algorithm;
    one.options.max_grad_norm = 0.5;
    const TrainingResult expected = Train(one);
    for (int stage : {1, 2}) {
      for (MemoryForm memory : {MemoryForm::kExternal, MemoryForm::kFlat}) {
        ASSERT_OK_AND_ASSIGN(auto world,
                             TestSession().World(TestGroupOptions()));
        TrainingCase many = one;
        many.ranks = world->size();
        many.options.stage = stage;
        many.options.memory = memory;
        TrainingResult got;
        TrainRank(many, world->rank(), *world, Optimizer::Create, &got);
        ExpectSameTraining(many, got, expected);
        EXPECT_EQ(got.norms, expected.norms);
        ASSERT_OK(world->Close());
      }
    }
  }
}

TEST(MpiTrainingTest, WhatIsWrongOnOneRankIsAnErrorOnEach) {
  ASSERT_OK_AND_ASSIGN(auto world, TestSession().World(TestGroupOptions()));
  const int last = world->size() - 1;
  TrainingCase c;
  c.options = ExactOptions();
  c.ranks = world->size();
  Replica replica(c.specs);
  std::vector<ParamSpec> odd = replica.specs();
  if (world->rank() == last) odd[1].name = odd[0].name;
  EXPECT_THAT(Optimizer::Create(c.options, odd, *world),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("rank " + std::to_string(last))));

  ASSERT_OK_AND_ASSIGN(auto optimizer,
                       Optimizer::Create(c.options, replica.specs(), *world));
  c.edit = [last](int param, int, int rank, std::vector<float>*) {
    return !(param == 2 && rank == last);
  };
  ASSERT_OK(GiveGradients(c, *optimizer, 1, world->rank()));
  EXPECT_THAT(optimizer->Step({0.01}),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("missing on rank " + std::to_string(last))));
  c.edit = [last](int param, int, int rank, std::vector<float>* gradient) {
    if (param == 3 && rank == last) (*gradient)[1] = NAN;
    return true;
  };
  ASSERT_OK(GiveGradients(c, *optimizer, 1, world->rank()));
  EXPECT_THAT(optimizer->Step({0.01}),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("'layer0.wv' is not finite")));
  c.edit = nullptr;
  ASSERT_OK(GiveGradients(c, *optimizer, 1, world->rank()));
  EXPECT_OK(optimizer->Step({0.01}));
  ASSERT_OK(optimizer->Close());
  ASSERT_OK(world->Close());
}

// In another process, too, and long before the deadline.
TEST(MpiTrainingTest, NoRoomForAGradientOnOneRankIsAnErrorOnEachAtOnce) {
  GroupOptions group = TestGroupOptions();
  group.timeout = absl::Seconds(80);
  ASSERT_OK_AND_ASSIGN(auto world, TestSession().World(group));
  if (world->size() == 1) return;
  const absl::Time begin = absl::Now();
  TrainingCase c;
  c.options = ExactOptions();
  c.ranks = world->size();
  auto full = std::make_shared<std::atomic<bool>>(false);
  OptimizerParts parts;
  parts.device = std::make_unique<SmallDevice>(group.timeout, full);
  Replica replica(c.specs);
  ASSERT_OK_AND_ASSIGN(
      auto optimizer,
      CreateOptimizer(c.options, replica.specs(), *world, std::move(parts)));
  *full = world->rank() == 1;
  GiveGradients(c, *optimizer, 1, world->rank()).IgnoreError();
  EXPECT_THAT(
      optimizer->Step({0.01}),
      StatusIs(absl::StatusCode::kResourceExhausted,
               HasSubstr(world->rank() == 1 ? "the device is full"
                                            : "rank 1: the device is full")));
  EXPECT_LT(absl::Now() - begin, absl::Seconds(40));
}

}  // namespace
}  // namespace zeromini
