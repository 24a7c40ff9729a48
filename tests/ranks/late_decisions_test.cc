// Steps whose decision the host does not wait for: absent gradients and those
// that are not finite are skipped, and nobody asks to wait.

#include <cmath>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/exact_training.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

TrainingCase Late(int ranks, int stage = 1) {
  TrainingCase c;
  c.options = ExactOptions();
  c.options.stage = stage;
  c.options.memory = stage == 3 ? MemoryForm::kFlat : MemoryForm::kExternal;
  c.options.absent_gradients = AbsentGradients::kSkip;
  c.options.non_finite = NonFiniteGradients::kSkip;
  c.options.max_grad_norm = 0.5;
  c.ranks = ranks;
  c.wait = false;
  return c;
}

// The same, with decisions read in their own step.
TrainingCase Prompt(TrainingCase c) {
  c.options.absent_gradients = AbsentGradients::kError;
  c.wait = true;
  return c;
}

// Calls `body` for a rank of an optimizer with its first weights.
template <typename Body>
void OnRanks(const TrainingCase& c, const Body& body) {
  RunRanks(c.ranks, [&](int rank, Communicator& group) {
    Replica replica(c.specs);
    ASSERT_OK_AND_ASSIGN(auto optimizer,
                         MakeOptimizer(c.options, replica.specs(), group));
    ASSERT_OK(FillWeights(c, replica, *optimizer));
    body(rank, *optimizer, replica);
    ASSERT_OK(optimizer->Close());
  });
}

absl::StatusOr<StepReport> GiveAndStep(const TrainingCase& c,
                                       Optimizer& optimizer, int step, int rank,
                                       double learning_rate) {
  for (size_t p = 0; c.options.stage < 3 && p < c.specs.size(); ++p) {
    ZEROMINI_RETURN_IF_ERROR(optimizer.WaitParam(static_cast<int>(p)));
  }
  ZEROMINI_RETURN_IF_ERROR(GiveGradients(c, optimizer, step, rank));
  StepOptions options;
  options.learning_rate = learning_rate;
  options.wait = c.wait;
  return optimizer.Step(options);
}

TEST(LateDecisionsTest, TheBitsAreThoseOfStepsThatWait) {
  for (int stage : {1, 2, 3}) {
    for (int ranks : {1, 2, 3, 5}) {
      SCOPED_TRACE(testing::Message() << ranks << " ranks, stage " << stage);
      const TrainingCase c = Late(ranks, stage);
      ExpectSameTraining(c, Train(c), Train(Prompt(c)));
    }
  }
}

TEST(LateDecisionsTest, AReportIsPendingUntilWaitAllAndThenComplete) {
  const TrainingCase c = Late(3);
  const TrainingResult prompt = Train(Prompt(c));
  OnRanks(c, [&](int rank, Optimizer& optimizer, Replica&) {
    for (int step = 1; step <= 3; ++step) {
      ASSERT_OK_AND_ASSIGN(StepReport report,
                           GiveAndStep(c, optimizer, step, rank, 0.01));
      EXPECT_TRUE(report.pending);
      EXPECT_TRUE(optimizer.LastReport().pending);
      ASSERT_OK(optimizer.WaitAll());
      const StepReport last = optimizer.LastReport();
      EXPECT_FALSE(last.pending);
      EXPECT_FALSE(last.skipped);
      EXPECT_EQ(last.step, step);
      EXPECT_EQ(last.grad_norm, prompt.norms[step - 1]);
      EXPECT_EQ(last.clip_scale, 0.5 / (last.grad_norm + 1e-6));
      EXPECT_EQ(last.seconds_total, report.seconds_total);
      EXPECT_GT(last.seconds_scalars, 0);
      EXPECT_GT(last.seconds_update, 0);
      for (int p = 0; p < kPurposes; ++p) {
        EXPECT_EQ(last.traffic[p].bytes, report.traffic[p].bytes);
      }
      EXPECT_GT(last.traffic[int(Purpose::kGradients)].bytes, 0);
    }
  });
}

TEST(LateDecisionsTest, AReportOfAStepThatWaitsIsComplete) {
  TrainingCase c = Late(2);
  c.wait = true;
  const TrainingResult prompt = Train(Prompt(c));
  OnRanks(c, [&](int rank, Optimizer& optimizer, Replica&) {
    for (int step = 1; step <= 3; ++step) {
      ASSERT_OK_AND_ASSIGN(StepReport report,
                           GiveAndStep(c, optimizer, step, rank, 0.01));
      EXPECT_FALSE(report.pending);
      EXPECT_EQ(report.step, step);
      EXPECT_EQ(report.grad_norm, prompt.norms[step - 1]);
      EXPECT_EQ(report.clip_scale, 0.5 / (report.grad_norm + 1e-6));
      EXPECT_GT(report.seconds_scalars, 0);
      EXPECT_GT(report.seconds_update, 0);
      EXPECT_EQ(optimizer.LastReport().grad_norm, report.grad_norm);
    }
  });
}

TEST(LateDecisionsTest, ASkippedStepSaysWhyAndMovesNoCount) {
  for (bool finite : {false, true}) {
    TrainingCase c = Late(2);
    c.options.skip_above_grad_norm = 100;
    c.edit = [=](int param, int step, int, std::vector<float>* gradient) {
      if (param == 3 && step == 2) (*gradient)[0] = finite ? 1e4f : NAN;
      return true;
    };
    OnRanks(c, [&](int rank, Optimizer& optimizer, Replica&) {
      const int64_t updates[] = {1, 1, 2};
      for (int step = 1; step <= 3; ++step) {
        ASSERT_OK_AND_ASSIGN(StepReport pending,
                             GiveAndStep(c, optimizer, step, rank, 0.01));
        EXPECT_TRUE(pending.pending);
        EXPECT_FALSE(pending.skipped);
        ASSERT_OK(optimizer.WaitAll());
        const StepReport report = optimizer.LastReport();
        EXPECT_EQ(report.step, updates[step - 1]);
        EXPECT_EQ(report.skipped, step == 2);
        EXPECT_EQ(report.not_finite, step == 2 && !finite);
        EXPECT_EQ(std::isnan(report.grad_norm), step == 2 && !finite);
        if (step != 2) {
          EXPECT_EQ(report.skipped_because, "");
        } else if (finite) {
          EXPECT_THAT(report.skipped_because, HasSubstr("norm is 20000"));
        } else {
          EXPECT_THAT(report.skipped_because,
                      HasSubstr("'" + c.specs[3].name + "' is not finite"));
        }
        ASSERT_OK_AND_ASSIGN(auto state, optimizer.ConsolidatedState(3));
        EXPECT_EQ(state.steps, updates[step - 1]);
      }
    });
    TrainingCase prompt = Prompt(c);
    ExpectSameTraining(c, Train(c), Train(prompt));
  }
}

// One rank's calls of Step() and the weights after them.
struct Calls {
  std::vector<absl::Status> status;
  std::vector<std::vector<float>> weights;
};

std::vector<Calls> CallSteps(const TrainingCase& c,
                             const std::function<double(int, int)>& rate) {
  std::vector<Calls> calls(c.ranks);
  OnRanks(c, [&](int rank, Optimizer& optimizer, Replica& replica) {
    for (int step = 1; step <= 6; ++step) {
      calls[rank].status.push_back(
          GiveAndStep(c, optimizer, step, rank, rate(step, rank)).status());
    }
    ASSERT_OK(optimizer.WaitAll());
    for (int p = 0; p < int(c.specs.size()); ++p) {
      ASSERT_OK_AND_ASSIGN(auto weights, ReadWeights(c, p, replica, optimizer));
      calls[rank].weights.push_back(std::move(weights));
    }
  });
  return calls;
}

TEST(LateDecisionsTest, ADisagreementIsAnErrorOnEveryRankAtOneLaterCall) {
  const auto rate = [](int step, int rank) {
    return step == 2 && rank == 1 ? 0.02 : 0.01;
  };
  for (int stage : {1, 2, 3}) {
    SCOPED_TRACE(testing::Message() << "stage " << stage);
    const TrainingCase c = Late(3, stage);
    const std::vector<Calls> late = CallSteps(c, rate);
    const std::vector<Calls> prompt = CallSteps(Prompt(c), rate);
    for (int rank = 0; rank < c.ranks; ++rank) {
      for (int step = 1; step <= 6; ++step) {
        const absl::Status& status = late[rank].status[step - 1];
        EXPECT_EQ(status.ok(), step != 4) << "step " << step << status;
        EXPECT_EQ(prompt[rank].status[step - 1].ok(), step != 2);
      }
      const absl::Status& error = late[rank].status[3];
      EXPECT_TRUE(absl::IsAborted(error));
      EXPECT_THAT(error.message(),
                  testing::AllOf(HasSubstr("of step 2"),
                                 HasSubstr(rank == 1 ? "0.02" : "0.01"),
                                 HasSubstr("nothing was updated")));
      EXPECT_EQ(late[rank].weights, prompt[rank].weights);
    }
  }
}

TEST(LateDecisionsTest, ADisagreementIsAnErrorOfTheNextWaitAll) {
  const TrainingCase c = Late(2);
  OnRanks(c, [&](int rank, Optimizer& optimizer, Replica&) {
    ASSERT_OK(GiveAndStep(c, optimizer, 1, rank, 0.01 + rank).status());
    EXPECT_TRUE(absl::IsInvalidArgument(optimizer.WaitAll()));
    EXPECT_TRUE(optimizer.LastReport().skipped);
    EXPECT_THAT(optimizer.LastReport().skipped_because,
                HasSubstr("ranks disagree"));
    EXPECT_OK(optimizer.WaitAll());
    ASSERT_OK(GiveAndStep(c, optimizer, 2, rank, 0.01).status());
    ASSERT_OK(optimizer.WaitAll());
    EXPECT_EQ(optimizer.LastReport().step, 1);
  });
}

TEST(LateDecisionsTest, ARateThatIsNoNumberIsRefusedAtOnce) {
  const auto rate = [](int step, int) { return step == 2 ? NAN : 0.01; };
  for (int stage : {1, 3}) {
    const TrainingCase c = Late(2, stage);
    const std::vector<Calls> late = CallSteps(c, rate);
    const std::vector<Calls> prompt = CallSteps(Prompt(c), rate);
    for (int rank = 0; rank < c.ranks; ++rank) {
      for (int step = 1; step <= 6; ++step) {
        EXPECT_EQ(late[rank].status[step - 1].ok(), step != 2);
      }
      EXPECT_THAT(late[rank].status[1].message(),
                  testing::AllOf(HasSubstr("step 2"),
                                 HasSubstr("learning rate is not given")));
      EXPECT_EQ(late[rank].weights, prompt[rank].weights);
    }
  }
}

TEST(LateDecisionsTest, ARefusalTellsOfAnOlderDisagreement) {
  const auto rate = [](int step, int rank) {
    return step == 3 ? NAN : step == 1 && rank == 1 ? 0.02 : 0.01;
  };
  for (const Calls& calls : CallSteps(Late(2), rate)) {
    EXPECT_THAT(calls.status[2].message(),
                testing::AllOf(HasSubstr("step 3: the learning rate"),
                               HasSubstr("ranks disagree")));
    EXPECT_OK(calls.status[3]);
  }
}

TEST(LateDecisionsTest, OneRankThatRefusesItsRateLeavesNoneWaiting) {
  const auto rate = [](int step, int rank) {
    return step == 2 && rank == 1 ? NAN : 0.01;
  };
  for (int stage : {1, 2, 3}) {
    SCOPED_TRACE(testing::Message() << "stage " << stage);
    const TrainingCase c = Late(3, stage);
    const std::vector<Calls> late = CallSteps(c, rate);
    const std::vector<Calls> prompt = CallSteps(Prompt(c), rate);
    for (int rank = 0; rank < c.ranks; ++rank) {
      for (int step = 1; step <= 6; ++step) {
        EXPECT_EQ(late[rank].status[step - 1].ok(), step != (rank == 1 ? 2 : 4))
            << "rank " << rank << ", step " << step << ": "
            << late[rank].status[step - 1];
      }
      EXPECT_EQ(late[rank].weights, prompt[rank].weights);
    }
  }
}

}  // namespace
}  // namespace zeromini
