#include "tools/sharing/moment_snr.h"

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "support/status_matchers.h"
#include "tools/sharing/moment_parts.h"

namespace zeromini::tools {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

MomentSnr Measure(const std::vector<float>& v, int64_t rows, int64_t columns,
                  int64_t rows_per_head = 0) {
  return MeasureSnr({v.data(), rows, columns, columns, 1, rows_per_head});
}

// Rows (1, 3) and (2, 6): means 2 and 4, variances 1 and 4. Columns (1, 2) and
// (3, 6): means 1.5 and 4.5, variances 0.25 and 2.25. All: mean 3, variance
// (4 + 0 + 1 + 9) / 4.
TEST(MomentSnrTest, RowsColumnsAndAllAreWhatAHandComputes) {
  const MomentSnr snr = Measure({1, 3, 2, 6}, 2, 2);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kRow], 4);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kColumn], 9);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kWhole], 9 / 3.5);
  EXPECT_TRUE(std::isnan(snr[SharedForm::kHead]));
}

// Row means 1, 3, mean 2; column means 2, 2: v' is (1, 1), (3, 3). Residuals
// are 1 everywhere: along rows (1 + 9) / 2, along columns 4.
TEST(MomentSnrTest, FactoredIsWhatAHandComputes) {
  const MomentSnr snr = Measure({2, 0, 2, 4}, 2, 2);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kFactored], 5);
  EXPECT_DOUBLE_EQ(snr.factored_error, 4.0 / 24);
}

// The same on its side: along rows 4, along columns 5.
TEST(MomentSnrTest, FactoredIsMeasuredAlongItsBetterAxis) {
  const MomentSnr snr = Measure({2, 2, 0, 4}, 2, 2);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kFactored], 5);
}

// Heads (1, 3, 1, 3) and (2, 2, 2, 6): means 2 and 3, variances 1 and 3.
TEST(MomentSnrTest, HeadsAreBlocksOfRows) {
  const MomentSnr snr = Measure({1, 3, 1, 3, 2, 2, 2, 6}, 4, 2, 2);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kHead], (4.0 + 3) / 2);
}

TEST(MomentSnrTest, EqualMembersAreInfinitelyWellStoodFor) {
  // 0.1f has no exact mean of three.
  const MomentSnr snr = Measure({0.1f, 0.1f, 0.1f, 7, 7, 7}, 2, 3);
  EXPECT_EQ(snr[SharedForm::kRow], kInfinity);
  EXPECT_LT(snr[SharedForm::kColumn], 2);
  EXPECT_EQ(snr[SharedForm::kFactored], kInfinity);
}

TEST(MomentSnrTest, ARankOneMatrixIsInfinitelyWellFactored) {
  std::vector<float> v;
  for (float row : {1e-9f, 3e-7f, 0.1f, 5.0f}) {
    for (float column : {0.3f, 0.7f, 11.0f}) v.push_back(row * column);
  }
  const MomentSnr snr = Measure(v, 4, 3);
  EXPECT_EQ(snr[SharedForm::kFactored], kInfinity);
  EXPECT_LT(snr.factored_error, 1e-14);
  EXPECT_LT(snr[SharedForm::kRow], 2);
}

TEST(MomentSnrTest, ScaleChangesNothing) {
  const MomentSnr snr = Measure({1, 3, 2, 7}, 2, 2);
  const MomentSnr small =
      Measure({0x1p-70f, 3 * 0x1p-70f, 0x1p-69f, 7 * 0x1p-70f}, 2, 2);
  for (SharedForm form : {SharedForm::kWhole, SharedForm::kRow,
                          SharedForm::kColumn, SharedForm::kFactored}) {
    EXPECT_DOUBLE_EQ(small[form], snr[form]) << SharedFormName(form);
  }
}

TEST(MomentSnrTest, WhatNoGradientHasReachedIsLeftOut) {
  const MomentSnr snr = Measure({1, 3, 0, 0}, 2, 2);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kRow], 4);
  const MomentSnr nothing = Measure({0, 0, 0, 0}, 2, 2);
  for (double value : nothing.of) EXPECT_TRUE(std::isnan(value));
  EXPECT_TRUE(std::isnan(nothing.factored_error));
}

TEST(MomentSnrTest, AVectorHasOneFormOnly) {
  const MomentSnr snr = Measure({1, 3}, 1, 2);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kWhole], 4);
  for (SharedForm form : {SharedForm::kHead, SharedForm::kRow,
                          SharedForm::kColumn, SharedForm::kFactored}) {
    EXPECT_TRUE(std::isnan(snr[form])) << SharedFormName(form);
  }
}

std::vector<MomentPart> PartsOfPreset(const std::string& name) {
  auto preset = FindPreset(name);
  EXPECT_OK(preset);
  PlanOptions options;
  options.algorithm = Algorithm::kAdamW;
  options.model = preset->shape;
  auto plan = MakePlan(preset->params, options);
  EXPECT_OK(plan);
  auto parts = PartsOf(*plan);
  EXPECT_OK(parts);
  return *std::move(parts);
}

TEST(MomentPartsTest, AFusedTensorIsPartedIntoQueryKeyAndValue) {
  std::vector<MomentPart> fused;
  for (const MomentPart& part : PartsOfPreset("gpt2")) {
    if (absl::EndsWith(part.name, "h.3.attn.c_attn.weight")) {
      fused.push_back(part);
    }
  }
  ASSERT_EQ(fused.size(), 3u);
  const char* const kinds[] = {"query", "key", "value"};
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(fused[i].part, kinds[i]);
    EXPECT_EQ(fused[i].kind, kinds[i]);
    EXPECT_EQ(fused[i].role, "fused-qkv");
    EXPECT_EQ(fused[i].rows, 768);
    EXPECT_EQ(fused[i].columns, 768);
    EXPECT_EQ(fused[i].first_row, 768 * i);
    EXPECT_EQ(fused[i].rows_per_head, i < 2 ? 64 : 0);
    EXPECT_EQ(fused[i].official_scalars, i < 2 ? 12 : 768);
  }
}

// Stored [in, out], 2 inputs and 3 * 2 outputs: output 4 is the third's first.
TEST(MomentPartsTest, APartOfATransposedTensorIsItsColumns) {
  MomentPart part;
  part.shape = {2, 6};
  part.first_row = 4;
  part.rows = 2;
  part.columns = 2;
  part.transposed = true;
  const std::vector<float> v = {9, 9, 9, 9, 1, 2,  //
                                9, 9, 9, 9, 3, 6};
  const MomentSnr snr = MeasureSnr(ViewOf(part, v.data()));
  EXPECT_DOUBLE_EQ(snr[SharedForm::kRow], 4);
  EXPECT_DOUBLE_EQ(snr[SharedForm::kColumn], 9);
}

TEST(MomentPartsTest, PositionsAreAClassOfTheirOwn) {
  int positions = 0;
  for (const MomentPart& part : PartsOfPreset("gpt2")) {
    if (part.kind != "position") continue;
    ++positions;
    EXPECT_THAT(part.name, testing::HasSubstr("wpe"));
    EXPECT_EQ(part.role, "embedding");
  }
  EXPECT_EQ(positions, 1);
}

TEST(MomentPartsTest, WhatIsTiedOrFrozenIsNotMeasured) {
  std::vector<ParamSpec> specs(3);
  specs[0].name = "embed_tokens.weight";
  specs[1].name = "lm_head.weight";
  specs[1].tied_to = specs[0].name;
  specs[2].name = "up_proj.weight";
  specs[2].frozen = true;
  for (ParamSpec& spec : specs) spec.shape = {6, 4};
  PlanOptions options;
  options.algorithm = Algorithm::kAdamW;
  ASSERT_OK_AND_ASSIGN(const Plan plan, MakePlan(specs, options));
  ASSERT_OK_AND_ASSIGN(const auto parts, PartsOf(plan));
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].kind, "embedding");
}

TEST(MomentPartsTest, EveryTensorOfALlamaHasAKind) {
  for (const MomentPart& part : PartsOfPreset("llama-2-7b")) {
    EXPECT_NE(part.kind, "other") << part.name;
    EXPECT_NE(part.kind, "mlp") << part.name;
    EXPECT_EQ(part.rows_per_head,
              part.kind == "query" || part.kind == "key" ? 128 : 0)
        << part.name;
  }
}

TEST(MomentPartsTest, AFormCostsItsMeans) {
  MomentPart part;
  part.rows = 12;
  part.columns = 5;
  part.rows_per_head = 4;
  EXPECT_EQ(ScalarsOf(part, SharedForm::kWhole), 1);
  EXPECT_EQ(ScalarsOf(part, SharedForm::kHead), 3);
  EXPECT_EQ(ScalarsOf(part, SharedForm::kRow), 12);
  EXPECT_EQ(ScalarsOf(part, SharedForm::kColumn), 5);
  EXPECT_EQ(ScalarsOf(part, SharedForm::kFactored), 17);
}

}  // namespace
}  // namespace zeromini::tools
