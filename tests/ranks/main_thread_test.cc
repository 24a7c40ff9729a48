// A trainer whose MPI may be called from one thread only, and which gives its
// gradients from another, as LibTorch's autograd may.

#include <atomic>
#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/optimizer_parts.h"
#include "support/device_wrapper.h"
#include "support/exact_training.h"
#include "zeromini/mpi.h"

namespace zeromini {
namespace {

// Gives all gradients on another thread, while this one waits for it.
void ExpectTraining(TrainingCase many, const TrainingResult& expected,
                    size_t least_buckets = 1) {
  SCOPED_TRACE(testing::Message() << "stage " << many.options.stage << ", "
                                  << many.options.micro_steps << " passes");
  GroupOptions impatient;
  impatient.timeout = absl::Seconds(5);
  ASSERT_OK_AND_ASSIGN(auto world, WrapMpi(MPI_COMM_WORLD, impatient));
  many.ranks = world->size();
  Replica replica(many.specs);
  ASSERT_OK_AND_ASSIGN(
      auto optimizer, Optimizer::Create(many.options, replica.specs(), *world));
  ASSERT_GE(optimizer->plan().buckets.size(), least_buckets);
  TrainingResult got;
  for (int step = 1; step <= many.steps; ++step) {
    absl::Status given;
    std::thread([&] {
      given = GiveGradients(many, *optimizer, step, world->rank());
    }).join();
    ASSERT_OK(given);
    StepOptions options;
    options.learning_rate = many.learning_rate;
    ASSERT_OK_AND_ASSIGN(const StepReport report, optimizer->Step(options));
    got.norms.push_back(report.grad_norm);
  }
  if (many.options.max_grad_norm > 0) {
    EXPECT_EQ(got.norms, expected.norms);
  }
  for (int p = 0; p < int(many.specs.size()); ++p) {
    ASSERT_OK_AND_ASSIGN(const auto weights,
                         ReadWeights(many, p, replica, *optimizer));
    EXPECT_EQ(weights, expected.weights[p]) << many.specs[p].name;
  }
  ASSERT_OK(optimizer->Close());
  ASSERT_OK(world->Close());
}

TEST(MainThreadTest, GradientsOfAnotherThreadGiveTheBitsOfOneRank) {
  TrainingCase one;
  one.options = ExactOptions();
  one.options.max_grad_norm = 0.5;
  const TrainingResult expected = Train(one);
  for (int stage : {1, 2}) {
    TrainingCase many = one;
    many.options.stage = stage;
    ExpectTraining(many, expected);
  }
}

// All of them leave while the main thread is in backward and makes no call.
TEST(MainThreadTest, MoreBucketsThanExchangeBuffersMayLeaveInOneBackward) {
  for (int micro_steps : {1, 4}) {
    TrainingCase one;
    one.options = ExactOptions();
    one.options.micro_steps = micro_steps;
    one.options.bucket_bytes = 512;
    const TrainingResult expected = Train(one);
    for (int stage : {1, 2}) {
      TrainingCase many = one;
      many.options.stage = stage;
      ExpectTraining(many, expected, /*least_buckets=*/6);
    }
  }
}

// The rank that fails may only tell the others from its main thread, which
// learns of it at its next call.
TEST(MainThreadTest, NoRoomForAGradientOfAnotherThreadIsEveryRanksError) {
  ASSERT_OK_AND_ASSIGN(auto world, WrapMpi(MPI_COMM_WORLD, TestGroupOptions()));
  if (world->size() == 1) return;
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = 2;
  auto full = std::make_shared<std::atomic<bool>>(false);
  OptimizerParts parts;
  parts.device = std::make_unique<SmallDevice>(world->timeout(), full);
  Replica replica(c.specs);
  ASSERT_OK_AND_ASSIGN(
      auto optimizer,
      CreateOptimizer(c.options, replica.specs(), *world, std::move(parts)));
  if (world->rank() == 1) {
    *full = true;
    std::thread([&] {
      EXPECT_FALSE(GiveGradients(c, *optimizer, 1, 1).ok());
    }).join();
  }
  EXPECT_THAT(optimizer->Step({0.01}),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       testing::HasSubstr("the device is full")))
      << "rank " << world->rank();
  // For no later call of rank 1 may be what tells the others.
  MPI_Barrier(MPI_COMM_WORLD);
}

}  // namespace
}  // namespace zeromini

int main(int argc, char** argv) {
  testing::InitGoogleMock(&argc, argv);
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_FUNNELED, &provided);
  int failed = 0;
  if (provided >= MPI_THREAD_MULTIPLE) {
    std::printf("skipped: this MPI always provides MPI_THREAD_MULTIPLE\n");
  } else {
    failed = RUN_ALL_TESTS();
  }
  MPI_Finalize();
  return failed;
}
