#include <array>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "nlohmann/json.hpp"
#include "tools/sharing/form_choice.h"
#include "tools/sharing/sharing_page.h"
#include "tools/sharing/sharing_record.h"

namespace zeromini::tools {
namespace {

using testing::HasSubstr;
using testing::Not;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// whole, head, row, column, factored.
using Values = std::array<double, kSharedForms>;

MomentSnr SnrWith(const Values& values) { return {values, 0.25}; }

MomentPart Query() {
  MomentPart part;
  part.name = "layers.0.q_proj.weight";
  part.role = part.kind = "query";
  part.shape = {8, 10};
  part.rows = 8;
  part.columns = 10;
  part.rows_per_head = 4;
  part.official_scalars = 2;
  part.official_form = "head";
  return part;
}

MomentPart Norm() {
  MomentPart part;
  part.name = "norm.weight";
  part.role = part.kind = "norm";
  part.shape = {10};
  part.rows = 1;
  part.columns = 10;
  part.official_scalars = 1;
  part.official_form = "whole";
  return part;
}

// A measurement every 20 steps of 200, the same each time.
SharingRecord Steady(const MomentPart& part, const Values& values) {
  SharingRecord record;
  record.beta2 = 0.95;
  record.parts.push_back({part, {}});
  for (int64_t step = 20; step <= 200; step += 20) {
    record.steps.push_back(step);
    record.parts[0].snr.push_back(SnrWith(values));
  }
  return record;
}

std::string FormOf(const MomentPart& part, const Values& values,
                   double threshold = 1) {
  return Suggest(Steady(part, values), threshold).kinds.at(0).form;
}

TEST(FormChoiceTest, TheCoarsestFormThatStandsIsSuggested) {
  EXPECT_EQ(FormOf(Query(), {9, 2, 9, 9, 9}), "head");
  EXPECT_EQ(FormOf(Query(), {9, 0.9, 2, 3, 9}), "column");
  EXPECT_EQ(FormOf(Query(), {9, 0.9, 3, 2, 9}), "row");
  EXPECT_EQ(FormOf(Query(), {9, 0.9, 0.9, 0.9, 1}), "factored");
  EXPECT_EQ(FormOf(Query(), {9, 0.9, 0.9, 0.9, 0.9}), "element");
  EXPECT_EQ(FormOf(Query(), {9, 0.9, kInfinity, 2, 9}), "row");
}

TEST(FormChoiceTest, OnlyAVectorIsSharedWhole) {
  EXPECT_EQ(FormOf(Norm(), {1, kNan, kNan, kNan, kNan}), "whole");
  EXPECT_EQ(FormOf(Norm(), {0.9, kNan, kNan, kNan, kNan}), "element");
}

TEST(FormChoiceTest, AThresholdMovesTheChoice) {
  EXPECT_EQ(FormOf(Query(), {9, 2, 3, 0, 9}, 2.5), "row");
  EXPECT_EQ(FormOf(Query(), {9, 2, 3, 0, 9}, 0.5), "head");
}

TEST(FormChoiceTest, BytesAreMomentumAndWhatTheFormKeeps) {
  const FormChoice choice =
      Suggest(Steady(Query(), {9, 0.9, 0.9, 0.9, 1}), 1).kinds.at(0);
  EXPECT_EQ(choice.bytes(), 4 * (80 + 8 + 10));
  EXPECT_EQ(choice.adamw_bytes(), 8 * 80);
  EXPECT_EQ(choice.adam_mini_bytes(), 4 * (80 + 2));
}

TEST(FormChoiceTest, TheFirstHalfOfTheRunDoesNotCount) {
  SharingRecord record = Steady(Query(), {9, 2, 9, 9, 9});
  for (int s = 0; s < 4; ++s) {  // Steps 20 to 80; step 100 is in the second.
    record.parts[0].snr[s] = SnrWith({0, 0, 0, 0, 0});
  }
  const Suggestion suggestion = Suggest(record, 1);
  EXPECT_EQ(suggestion.from_step, 100);
  EXPECT_EQ(suggestion.kinds[0].form, "head");
  EXPECT_EQ(suggestion.kinds[0].snr, 2);
  EXPECT_EQ(suggestion.too_short, "");
  EXPECT_THAT(SuggestionNote(suggestion), Not(HasSubstr("too short")));
}

TEST(FormChoiceTest, WhatStillChangesIsNotSettled) {
  SharingRecord record = Steady(Query(), {9, 2, 9, 9, 9});
  EXPECT_TRUE(Suggest(record, 1).kinds[0].settled);
  record.parts[0].snr[8] = record.parts[0].snr[9] = SnrWith({9, 0, 9, 9, 9});
  const Suggestion suggestion = Suggest(record, 1);
  EXPECT_FALSE(suggestion.kinds[0].settled);
  EXPECT_THAT(SuggestionNote(suggestion), HasSubstr("Not settled"));
}

TEST(FormChoiceTest, NothingIsSettledByOneMeasurement) {
  SharingRecord record = Steady(Query(), {0, 0, 0, 0, 0});
  record.steps = {1};
  record.parts[0].snr.resize(1);
  const Suggestion suggestion = Suggest(record, 1);
  EXPECT_EQ(suggestion.kinds[0].form, "element");
  EXPECT_FALSE(suggestion.kinds[0].settled);
}

TEST(FormChoiceTest, ARunThatIsTooShortToTellSaysSo) {
  SharingRecord forgetful = Steady(Query(), {9, 2, 9, 9, 9});
  forgetful.beta2 = 0.999;  // The second half begins at step 100, not 3,000.
  EXPECT_THAT(SuggestionNote(Suggest(forgetful, 1)),
              HasSubstr("too short to tell: the second half begins at step "
                        "100, and with beta2 0.999"));
  SharingRecord rare = Steady(Query(), {9, 2, 9, 9, 9});
  rare.steps = {50, 100, 150, 200};
  rare.parts[0].snr.resize(4);
  EXPECT_THAT(SuggestionNote(Suggest(rare, 1)),
              HasSubstr("too short to tell: 3 measurements"));
}

TEST(FormChoiceTest, TensorsThatTheirClassCarriesAreCounted) {
  SharingRecord record = Steady(Query(), {9, 4, 9, 9, 9});
  PartSeries weak = {Query(), {}};
  weak.snr.assign(10, SnrWith({9, 0.5, 9, 9, 9}));
  record.parts.push_back(std::move(weak));
  const Suggestion suggestion = Suggest(record, 1);
  EXPECT_EQ(suggestion.kinds[0].form, "head");
  EXPECT_EQ(suggestion.kinds[0].below, 1);
  EXPECT_THAT(SuggestionNote(suggestion),
              HasSubstr("below it by themselves: query (1 of 2)"));
}

TEST(FormChoiceTest, AMeanOfAClassIsOverItsTensors) {
  SharingRecord record = Steady(Query(), {1, 1, 1, 1, 1});
  PartSeries second = {Query(), {}};
  second.snr.assign(10, SnrWith({3, kNan, 3, 3, kInfinity}));
  record.parts.push_back(std::move(second));
  const auto means = KindMeans(record, 0, 10);
  ASSERT_EQ(means.size(), 1u);
  EXPECT_EQ(means[0].parts, 2);
  EXPECT_EQ(means[0].elements, 160);
  EXPECT_EQ(means[0].mean[SharedForm::kRow], 2);
  EXPECT_EQ(means[0].mean[SharedForm::kHead], 1);
  EXPECT_EQ(means[0].mean[SharedForm::kFactored], kInfinity);
}

TEST(SharingRecordTest, JsonWritesInfinityAsAWordAndUnknownAsNull) {
  const SharingRecord record = Steady(Query(), {0.5, kNan, kInfinity, 2, 3});
  const nlohmann::json json =
      nlohmann::json::parse(ToJson(record).dump())["tensors"][0];
  EXPECT_EQ(json["name"], "layers.0.q_proj.weight");
  EXPECT_EQ(json["shape"], nlohmann::json({8, 10}));
  EXPECT_TRUE(json["part"].is_null());
  EXPECT_EQ(json["snr"]["row"][9], "inf");
  EXPECT_TRUE(json["snr"]["head"][9].is_null());
  EXPECT_EQ(json["snr"]["column"].size(), 10u);
  EXPECT_EQ(json["factored_error"][0], 0.25);
}

TEST(SharingRecordTest, FormsThatATensorDoesNotHaveAreNotInItsJson) {
  const SharingRecord record = Steady(Norm(), {2, kNan, kNan, kNan, kNan});
  const nlohmann::json json = ToJson(record)["tensors"][0];
  EXPECT_EQ(json["snr"].size(), 1u);
  EXPECT_TRUE(json["snr"].contains("whole"));
  EXPECT_FALSE(json.contains("factored_error"));
}

TEST(SharingPageTest, ShowsTheLastMeasurementOfEachTensor) {
  SharingRecord record = Steady(Query(), {0.5, 0.75, kInfinity, 2, 3});
  record.parts[0].part.name = "<b>.weight";
  record.parts[0].snr.back() = SnrWith({0.11, 0.22, kInfinity, 4.44, 555});
  const std::string html =
      SharingPage(record, Suggest(record, 1), "about & all");
  for (const char* text :
       {"about &amp; all", "&lt;b&gt;.<wbr/>weight", ">0.11<", ">0.22<",
        ">inf<", ">4.44<", ">555<", "after step 200"}) {
    EXPECT_THAT(html, HasSubstr(text));
  }
  EXPECT_THAT(html, Not(HasSubstr("nan")));
  EXPECT_THAT(html, Not(HasSubstr("<script")));
  EXPECT_THAT(html, Not(HasSubstr("http")));
}

}  // namespace
}  // namespace zeromini::tools
