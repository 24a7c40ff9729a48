#include "zeromini/schedule.h"

#include <cstdint>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/status_matchers.h"
#include "zeromini/loss_scale.h"

namespace zeromini {
namespace {

using testing::HasSubstr;

constexpr ScheduleShape kShapes[] = {
    ScheduleShape::kConstant, ScheduleShape::kLinear, ScheduleShape::kCosine,
    ScheduleShape::kWarmupStableDecay};

Schedule Of(ScheduleShape shape) { return {shape, 1e-3, 1e-4, 10, 110, 20}; }

TEST(ScheduleTest, EveryShapeWarmsUpStraightToThePeak) {
  for (ScheduleShape shape : kShapes) {
    EXPECT_DOUBLE_EQ(LearningRate(Of(shape), 1), 1e-4);
    EXPECT_DOUBLE_EQ(LearningRate(Of(shape), 9), 9e-4);
    EXPECT_DOUBLE_EQ(LearningRate(Of(shape), 10), 1e-3);
  }
}

TEST(ScheduleTest, EveryShapeButTheConstantEndsAtTheFloorAndStaysThere) {
  for (ScheduleShape shape : kShapes) {
    const double end = shape == ScheduleShape::kConstant ? 1e-3 : 1e-4;
    EXPECT_NEAR(LearningRate(Of(shape), 110), end, 1e-18);
    EXPECT_NEAR(LearningRate(Of(shape), 1000), end, 1e-18);
  }
}

TEST(ScheduleTest, ShapesDifferOnTheWay) {
  EXPECT_DOUBLE_EQ(LearningRate(Of(ScheduleShape::kConstant), 60), 1e-3);
  EXPECT_DOUBLE_EQ(LearningRate(Of(ScheduleShape::kLinear), 60), 5.5e-4);
  EXPECT_DOUBLE_EQ(LearningRate(Of(ScheduleShape::kLinear), 35), 7.75e-4);
  EXPECT_DOUBLE_EQ(LearningRate(Of(ScheduleShape::kCosine), 60), 5.5e-4);
  EXPECT_NEAR(LearningRate(Of(ScheduleShape::kCosine), 35), 8.6819805e-4,
              1e-11);
  const Schedule stable = Of(ScheduleShape::kWarmupStableDecay);
  EXPECT_DOUBLE_EQ(LearningRate(stable, 90), 1e-3);
  EXPECT_DOUBLE_EQ(LearningRate(stable, 100), 5.5e-4);
}

TEST(ScheduleTest, NothingWarmsUpOrDecaysInNoSteps) {
  for (ScheduleShape shape : kShapes) {
    const Schedule schedule = {shape, 1, 0, 0, 1000, 0};
    ASSERT_OK(CheckSchedule(schedule));
    EXPECT_NEAR(LearningRate(schedule, 1), 1, 1.1e-3);
  }
  const Schedule all_warmup = {ScheduleShape::kCosine, 1, 0, 10, 10};
  ASSERT_OK(CheckSchedule(all_warmup));
  EXPECT_DOUBLE_EQ(LearningRate(all_warmup, 10), 1);
}

TEST(ScheduleTest, WhatDoesNotFitIsRefusedWithItsNumbers) {
  constexpr auto kWsd = ScheduleShape::kWarmupStableDecay;
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  const Schedule bad[] = {
      {kWsd, 1, 0, 60, 100, 50},       {kWsd, 1, 0, kMost, 100, kMost},
      {kWsd, 1, 0, 0, 100, -1},        {kWsd, 1, 0, -1, 100, 0},
      {kWsd, 1, 0, 0, 0, 0},           {kWsd, 1, 2, 0, 100, 0},
      {kWsd, 1, -1, 0, 100, 0},        {kWsd, kNan, 0, 0, 100, 0},
      {kWsd, kInfinity, 0, 0, 100, 0}, {kWsd, 1, kNan, 0, 100, 0},
  };
  for (const Schedule& schedule : bad) {
    EXPECT_THAT(
        CheckSchedule(schedule),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("schedule: ")));
  }
  EXPECT_THAT(CheckSchedule(bad[0]),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("60 steps of warm-up and 50 of decay")));
}

StepReport Finite() { return {}; }
StepReport NotFinite() {
  StepReport report;
  report.skipped = true;
  report.not_finite = true;
  return report;
}

TEST(LossScaleTest, HalvesWhenSkippedAndDoublesAfterTheInterval) {
  LossScaleOptions options;
  options.initial = 1024;
  options.growth_interval = 3;
  ASSERT_OK_AND_ASSIGN(LossScale scale, LossScale::Create(options));
  ASSERT_OK(scale.Update(NotFinite()));
  EXPECT_EQ(scale.value(), 512);
  ASSERT_OK(scale.Update(Finite()));
  ASSERT_OK(scale.Update(Finite()));
  EXPECT_EQ(scale.value(), 512);
  EXPECT_EQ(scale.steps_since_change(), 2);
  ASSERT_OK(scale.Update(Finite()));
  EXPECT_EQ(scale.value(), 1024);
  ASSERT_OK(scale.Update(Finite()));
  ASSERT_OK(scale.Update(Finite()));
  ASSERT_OK(scale.Update(NotFinite()));  // The count begins anew.
  ASSERT_OK(scale.Update(Finite()));
  ASSERT_OK(scale.Update(Finite()));
  EXPECT_EQ(scale.value(), 512);
}

TEST(LossScaleTest, BacksOffOnceForWhatTurnsOutLateToHaveBeenNotFinite) {
  LossScaleOptions options;
  options.initial = 1024;
  options.growth_interval = 1;
  ASSERT_OK_AND_ASSIGN(LossScale scale, LossScale::Create(options));
  StepReport late = Finite();
  late.skipped_late = late.not_finite_late = 2;
  ASSERT_OK(scale.Update(late));
  EXPECT_EQ(scale.value(), 512);
  EXPECT_EQ(scale.steps_since_change(), 0);
  StepReport for_its_norm = Finite();
  for_its_norm.skipped_late = 1;
  ASSERT_OK(scale.Update(for_its_norm));
  EXPECT_EQ(scale.value(), 1024);
}

TEST(LossScaleTest, RefusesAPendingReportAndStays) {
  LossScaleOptions options;
  options.growth_interval = 1;
  ASSERT_OK_AND_ASSIGN(LossScale scale, LossScale::Create(options));
  StepReport pending;
  pending.pending = true;
  EXPECT_THAT(scale.Update(pending),
              StatusIs(absl::StatusCode::kFailedPrecondition,
                       HasSubstr("call WaitAll() and give LastReport()")));
  EXPECT_EQ(scale.value(), options.initial);
  EXPECT_EQ(scale.steps_since_change(), 0);
}

TEST(LossScaleTest, StaysWithinItsLimits) {
  LossScaleOptions options;
  options.initial = 4;
  options.growth_interval = 1;
  options.most = 8;
  ASSERT_OK_AND_ASSIGN(LossScale scale, LossScale::Create(options));
  for (int i = 0; i < 5; ++i) ASSERT_OK(scale.Update(Finite()));
  EXPECT_EQ(scale.value(), 8);
  for (int i = 0; i < 9; ++i) ASSERT_OK(scale.Update(NotFinite()));
  EXPECT_EQ(scale.value(), 1);
}

TEST(LossScaleTest, RefusesWhatIsNoScale) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const LossScaleOptions bad[] = {
      {0.5},              // Below the least.
      {kInfinity},        // Above the most.
      {8, 0.5},           // Would shrink.
      {8, 2, 1.5},        // Would grow.
      {8, 2, 0.5, 0},     // Never.
      {8, 2, 0.5, 1, 0},  // May reach zero.
      {8, 2, 0.5, 1, 1, kInfinity},
  };
  for (const LossScaleOptions& options : bad) {
    EXPECT_THAT(LossScale::Create(options),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("loss scale: ")));
  }
}

}  // namespace
}  // namespace zeromini
