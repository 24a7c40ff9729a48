// A rank that stalls or fails in a phase of a step, on threads; and delays,
// which change nothing.

#include <chrono>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/delayed_stream.h"
#include "support/exact_training.h"
#include "support/watched_communicator.h"

namespace zeromini {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int kRanks = 4;
constexpr int kVictim = 2;

// An exchange of a step: the `number`th of its purpose.
struct Phase {
  Purpose purpose;
  int number = 1;
};

// What the survivors of a fault in an exchange see: `strike` is called on the
// victim before it.
void TrainUntil(const Phase& phase, absl::Duration timeout,
                const std::function<void(Communicator&)>& strike,
                const testing::Matcher<absl::Status>& expected) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = 2;
  c.ranks = kRanks;
  c.group.timeout = timeout;
  RunRanks(
      kRanks,
      [&](int rank, Communicator& world) {
        int seen = 0;
        WatchedCommunicator group(world, [&](const Exchange& exchange) {
          if (rank != kVictim || exchange.purpose != phase.purpose) return;
          if (++seen == phase.number) strike(world);
        });
        Replica replica(c.specs);
        ASSERT_OK_AND_ASSIGN(auto optimizer,
                             MakeOptimizer(c.options, replica.specs(), group));
        absl::Status status = GiveGradients(c, *optimizer, 1, rank);
        if (status.ok()) status = optimizer->Step({0.01}).status();
        if (rank == kVictim) return;
        EXPECT_THAT(status, expected) << "rank " << rank;
        EXPECT_THAT(optimizer->Step({0.01}).status(), expected)
            << "a later call of rank " << rank;
      },
      c.group);
}

// Ranks agree on the largest squares of columns before they add up the sums.
constexpr Phase kPhases[] = {{Purpose::kGradients},
                             {Purpose::kScalars},
                             {Purpose::kScalars, 2},
                             {Purpose::kWeights}};

TEST(ThreadFaultsTest, AStalledRankIsNamedByAllOthersWithThePhase) {
  for (const Phase& phase : kPhases) {
    TrainUntil(
        phase, absl::Milliseconds(300),
        [](Communicator& group) {
          QueueOf(group.stream()).Enqueue([] {
            std::this_thread::sleep_for(std::chrono::milliseconds(1500));
            return absl::OkStatus();
          });
        },
        StatusIs(absl::StatusCode::kDeadlineExceeded,
                 AllOf(HasSubstr("; rank 2 did not come"),
                       HasSubstr(PurposeName(phase.purpose)))));
  }
}

TEST(ThreadFaultsTest, AnErrorOnOneRankIsTheErrorOfAll) {
  for (const Phase& phase : kPhases) {
    TrainUntil(
        phase, absl::Seconds(60),
        [](Communicator& group) {
          group.Abort(absl::InternalError("rank 2 has no memory left"));
        },
        StatusIs(absl::StatusCode::kInternal,
                 HasSubstr("rank 2 has no memory left")));
  }
}

// As FSDP2's tests do: 100 ms at each boundary of a stage.
class SlowStream : public StreamWrapper {
 public:
  SlowStream() : StreamWrapper("slow") {}
  void Enqueue(std::function<absl::Status()> task) override {
    EnqueueLate(std::chrono::milliseconds(100), std::move(task));
  }
};

TEST(ThreadFaultsTest, ATenthOfASecondBeforeEachExchangeChangesNoBit) {
  for (int stage : {1, 2}) {
    TrainingCase c;
    c.options = ExactOptions();
    c.options.stage = stage;
    c.options.max_grad_norm = 0.5;
    c.ranks = 3;
    c.steps = 2;
    TrainingCase late = c;
    // One rank alone is slow, then all are.
    for (int slow : {1, -1}) {
      late.group.make_stream = [slow](int rank) -> std::unique_ptr<HostStream> {
        if (slow >= 0 && rank != slow) return HostStream::Create("quick");
        return std::make_unique<SlowStream>();
      };
      ExpectSameTraining(c, Train(late), Train(c));
    }
  }
}

}  // namespace
}  // namespace zeromini
