#include <cmath>
#include <functional>
#include <initializer_list>
#include <limits>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/exact_sum.h"
#include "tests/kernels/run_kernel.h"
#include "zeromini/internal/scalar_words.h"
#include "zeromini/kernels.h"

namespace zeromini {
namespace {

constexpr int kRanks = 3;

// Three parameters of two groups, a fourth that is frozen, and a split block.
// All ranks agree, all gradients came, and the norm of their sum is 5.
struct Step {
  Step() {
    input.ranks = kRanks;
    input.agreement = 0xfedcba9876543210;
    input.has_statistics = 1;
    input.mean_scale = 0.5;
    words[kAgreementWord] = static_cast<int64_t>(input.agreement * kRanks);
    for (int p = 0; p < 3; ++p) words[ParamWord(p)] = kRanks;
    ExactSum norm;
    norm.Add(9);
    norm.Add(16);
    norm.AddTo(words.data());
    ExactSum block;
    block.Add(7);
    block.AddTo(split_words());
    hyper[0].learning_rate = 0.25;
    hyper[0].weight_decay = 0.125;
    hyper[1].learning_rate = 0.75;
    hyper[1].beta1 = 0.5;
    hyper[1].weight_decay = 0.375;
    decision.updates = 40;
  }
  Step(const Step&) = delete;

  int64_t* split_words() { return words.data() + SplitWords(3, 0); }
  void SpoilGradient(int param) { words[ParamWord(param)] += kNotFiniteUnit; }

  Verdict Decide() {
    RunKernel(CpuKernels().decide,
              {words.data(), &input, hyper.data(), params.data(), 4, &split, 1,
               steps.data(), scalars.data(), &decision});
    return decision.verdict;
  }

  std::vector<int64_t> words = std::vector<int64_t>(ScalarWords(3, 1), 0);
  DecisionInput input;
  std::vector<StepScalars> hyper = std::vector<StepScalars>(2);
  std::vector<DecisionParam> params = {{ParamWord(0), 0, 1},
                                       {ParamWord(1), 1, 1},
                                       {ParamWord(2), 1, 0},
                                       {-1, 0, 1}};
  double split_sum = -1;
  SplitTarget split = {SplitWords(3, 0), &split_sum};
  std::vector<int64_t> steps = {5, 6, 7, 8};
  std::vector<StepScalars> scalars = std::vector<StepScalars>(4);
  StepDecision decision;
};

TEST(DecideTest, AnUpdateGivesEachParameterItsGroupsNumbersAndItsOwnCount) {
  Step step;
  EXPECT_EQ(step.Decide(), Verdict::kUpdate);
  EXPECT_EQ(step.scalars[0].learning_rate, 0.25);
  EXPECT_EQ(step.scalars[0].weight_decay, 0.125);
  EXPECT_EQ(step.scalars[1].learning_rate, 0.75);
  EXPECT_EQ(step.scalars[1].beta1, 0.5);
  EXPECT_EQ(step.scalars[1].weight_decay, 0.375);
  EXPECT_EQ(step.scalars[2].weight_decay, 0) << "it does not decay";
  for (int p = 0; p < 3; ++p) {
    EXPECT_EQ(step.scalars[p].update, 1);
    EXPECT_EQ(step.scalars[p].step, 6 + p);
    EXPECT_EQ(step.scalars[p].gradient_scale, 0.5);
  }
  EXPECT_EQ(step.steps, (std::vector<int64_t>{6, 7, 8, 8}));
  EXPECT_EQ(step.decision.updates, 41);
  EXPECT_EQ(step.decision.absent, 0);
  EXPECT_EQ(step.decision.grad_norm, 2.5);
  EXPECT_EQ(step.decision.clip_scale, 1);
}

TEST(DecideTest, AParameterWithoutAWordIsNeverUpdatedAndNeverAbsent) {
  Step step;
  step.input.require_all = 1;
  EXPECT_EQ(step.Decide(), Verdict::kUpdate);
  EXPECT_EQ(step.scalars[3].update, 0);
  EXPECT_EQ(step.decision.absent, 0);
}

// From the first in Verdict's order to the last.
const std::function<void(Step&)> kReasons[] = {
    [](Step& step) { ++step.words[kAgreementWord]; },
    [](Step& step) { step.input.refused = 1; },
    [](Step& step) {
      step.input.require_all = 1;
      step.words[ParamWord(1)] -= 1;
    },
    [](Step& step) { step.SpoilGradient(0); },
    [](Step& step) { step.input.skip_above = 2.4; },
};
constexpr Verdict kVerdicts[] = {Verdict::kDisagreement, Verdict::kRefused,
                                 Verdict::kAbsent, Verdict::kNotFinite,
                                 Verdict::kNormTooLarge};

TEST(DecideTest, OfTwoReasonsTheFirstCounts) {
  for (int first = 0; first < 5; ++first) {
    for (int second = first; second < 5; ++second) {
      Step step;
      kReasons[second](step);
      kReasons[first](step);
      EXPECT_EQ(step.Decide(), kVerdicts[first]) << first << " " << second;
    }
  }
}

TEST(DecideTest, WithoutAnUpdateNoCountMovesAndNoParameterIsUpdated) {
  for (const auto& reason : kReasons) {
    Step step;
    reason(step);
    step.Decide();
    EXPECT_EQ(step.steps, (std::vector<int64_t>{5, 6, 7, 8}));
    EXPECT_EQ(step.decision.updates, 40);
    for (const StepScalars& scalars : step.scalars) {
      EXPECT_EQ(scalars.update, 0);
    }
  }
}

TEST(DecideTest, AGradientThatIsAbsentEverywhereIsSkippedAlone) {
  Step step;
  step.words[ParamWord(1)] = 0;
  step.words[ParamWord(2)] = 1;  // Of one rank: enough.
  EXPECT_EQ(step.Decide(), Verdict::kUpdate);
  EXPECT_EQ(step.decision.absent, 1);
  EXPECT_EQ(step.scalars[1].update, 0);
  EXPECT_EQ(step.scalars[2].update, 1);
  EXPECT_EQ(step.steps, (std::vector<int64_t>{6, 6, 8, 8}));
}

TEST(DecideTest, WhatIsNotFiniteCountsOnlyWithStatistics) {
  Step step;
  step.input.has_statistics = 0;
  step.input.skip_above = 0.1;
  step.input.max_grad_norm = 0.1;
  step.SpoilGradient(0);
  EXPECT_EQ(step.Decide(), Verdict::kUpdate);
  EXPECT_EQ(step.scalars[0].update, 1) << "it is present as well";
  EXPECT_TRUE(std::isnan(step.decision.grad_norm));
  EXPECT_EQ(step.decision.clip_scale, 1);
}

TEST(DecideTest, ANormThatIsNotFiniteIsNan) {
  Step step;
  step.SpoilGradient(2);
  EXPECT_EQ(step.Decide(), Verdict::kNotFinite);
  EXPECT_TRUE(std::isnan(step.decision.grad_norm));
}

TEST(DecideTest, ClipsANormAboveTheLimitAsTorchDoes) {
  Step step;
  step.input.max_grad_norm = 2;
  EXPECT_EQ(step.Decide(), Verdict::kUpdate);
  EXPECT_EQ(step.decision.grad_norm, 2.5);
  EXPECT_EQ(step.decision.clip_scale, 2 / (2.5 + 1e-6));
  EXPECT_EQ(step.scalars[1].gradient_scale, 0.5 * (2 / (2.5 + 1e-6)));
}

TEST(DecideTest, ANormAtALimitIsNeitherClippedNorSkipped) {
  Step step;
  step.input.max_grad_norm = 2.5;
  step.input.skip_above = 2.5;
  EXPECT_EQ(step.Decide(), Verdict::kUpdate);
  EXPECT_EQ(step.decision.clip_scale, 1);
}

TEST(DecideTest, ASplitBlocksSumIsWhereTheUpdateReadsIt) {
  Step step;
  step.Decide();
  EXPECT_EQ(step.split_sum, 7);
  step.split_words()[kSplitNotFiniteWord] = kRanks;
  step.Decide();
  EXPECT_EQ(step.split_sum, std::numeric_limits<double>::infinity());
  step.split_words()[kSplitNotFiniteWord] += kNotFiniteUnit;
  step.Decide();
  EXPECT_TRUE(std::isnan(step.split_sum));
}

// The words of two ranks, each with a part of what one rank has whole.
TEST(DecideTest, TheSumOverRanksIsTheSumInOneRank) {
  const double large = double(float(7e20)) * float(7e20);
  const double small = double(1e-30f) * 1e-30f;
  const auto words_of = [](std::initializer_list<double> squares) {
    std::vector<int64_t> words(ScalarWords(3, 2), 0);
    ExactSum sum;
    for (double square : squares) sum.Add(square);
    sum.AddTo(words.data());
    sum.AddTo(words.data() + SplitWords(3, 1));
    return words;
  };
  std::vector<int64_t> sum = words_of({small, 9, large});
  const std::vector<int64_t> other = words_of({0.25});
  RunKernel(CpuKernels().add_words,
            {sum.data(), other.data(), static_cast<int64_t>(sum.size())});
  const auto decide = [](std::vector<int64_t> words, double* splits) {
    Step step;
    words[kAgreementWord] = step.words[kAgreementWord];
    const SplitTarget targets[] = {{SplitWords(3, 0), splits},
                                   {SplitWords(3, 1), splits + 1}};
    RunKernel(
        CpuKernels().decide,
        {words.data(), &step.input, step.hyper.data(), step.params.data(), 4,
         targets, 2, step.steps.data(), step.scalars.data(), &step.decision});
    return step.decision.grad_norm;
  };
  double ranks[2], one[2];
  EXPECT_EQ(decide(sum, ranks), decide(words_of({small, 9, large, 0.25}), one));
  EXPECT_EQ(ranks[1], one[1]);
  EXPECT_GT(ranks[1], 0);
  EXPECT_EQ(ranks[0], 0);
}

TEST(DecideTest, AWordThatDiffersOnOneRankIsNoAgreement) {
  Step step;
  const uint64_t word = step.input.agreement;
  step.words[kAgreementWord] = static_cast<int64_t>(word * 3);
  EXPECT_EQ(step.Decide(), Verdict::kUpdate);
  step.words[kAgreementWord] = static_cast<int64_t>(word * 2 + 1);
  EXPECT_EQ(step.Decide(), Verdict::kDisagreement);
}

TEST(DecideTest, NoParametersAreNoAccess) {
  Step step;
  RunKernel(ReferenceKernels().decide,
            {step.words.data(), &step.input, nullptr, nullptr, 0, nullptr, 0,
             nullptr, nullptr, &step.decision});
  EXPECT_EQ(step.decision.updates, 41);
}

}  // namespace
}  // namespace zeromini
