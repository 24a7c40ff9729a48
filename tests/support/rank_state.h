// One rank's optimizer state without an optimizer around it.

#ifndef ZEROMINI_TESTS_SUPPORT_RANK_STATE_H_
#define ZEROMINI_TESTS_SUPPORT_RANK_STATE_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "runtime/state/shard_state.h"
#include "support/exact_training.h"

namespace zeromini {

// Every kind of parameter, and one block that ranks have to split.
inline std::vector<ParamSpec> StateSpecs() {
  std::vector<ParamSpec> specs = EveryKindOfParam();
  specs.push_back(Spec("layer1.large", {97, 48}, BlockRule::Whole(), 1));
  specs.push_back(Spec("layer2.large", {90, 40}, BlockRule::Heads(30), 2));
  return specs;
}

inline OptimizerOptions StateOptions(
    Algorithm algorithm, StateFormat state = StateFormat::kFloat32) {
  OptimizerOptions options = ExactOptions();
  options.algorithm = algorithm;
  options.state = state;
  return options;
}

inline Plan StatePlan(const std::vector<ParamSpec>& specs,
                      const OptimizerOptions& options, int ranks,
                      int replicas = 1) {
  PlanOptions plan_options;
  plan_options.algorithm = options.algorithm;
  plan_options.ranks = ranks;
  plan_options.replicas = replicas;
  auto plan = MakePlan(specs, plan_options);
  EXPECT_TRUE(plan.ok()) << plan.status();
  return *std::move(plan);
}

// All must outlive it.
struct RankState {
  RankState(const Plan& plan, const OptimizerOptions& options,
            Communicator& group)
      : device(MakeHostDevice(CpuKernels(), group.timeout(), nullptr)) {
    EXPECT_OK(groups.Init(group, options));
    auto made = ShardState::Create(plan, options, groups, *device);
    EXPECT_OK(made.status());
    state.emplace(*std::move(made));
  }

  StateValues Read(const StateView& view) const {
    auto values = state->Read(view, kPatience);
    EXPECT_OK(values.status());
    return *std::move(values);
  }
  void Write(const StateView& view, const StateValues& values) {
    EXPECT_OK(state->Write(view, values, kPatience));
  }

  static constexpr absl::Duration kPatience = absl::Seconds(20);
  const std::unique_ptr<Device> device;
  RankGroups groups;
  std::optional<ShardState> state;
};

// The block of each row; of a row that has no scalar the next one.
inline std::vector<int64_t> BlocksOfRows(const PlannedParam& param) {
  std::vector<int64_t> blocks;
  int64_t block = 0;
  while (!param.blocks.empty() &&
         static_cast<int64_t>(blocks.size()) < param.rows) {
    for (const BlockSegment& segment : param.blocks) {
      for (int64_t row = 0; row < segment.rows; ++row) {
        const bool counts = segment.form != MomentForm::kColumns;
        blocks.push_back(block + (counts ? row / segment.rows_per_block : 0));
      }
      block += segment.form == MomentForm::kColumns
                   ? 0
                   : segment.rows / segment.rows_per_block;
    }
  }
  return blocks;
}

// The form of each row.
inline std::vector<MomentForm> FormsOfRows(const PlannedParam& param) {
  std::vector<MomentForm> forms(param.rows, MomentForm::kBlocks);
  for (const ColumnedMatrix& matrix : MatricesOf(param)) {
    std::fill_n(forms.begin() + matrix.first_row, matrix.rows, matrix.form);
  }
  return forms;
}

// A number of its own for each of a view's values, the same for the same
// element or block on any ranks; `salt` for another set of them.
inline StateValues NumbersOf(const Plan& plan, const StateView& view,
                             int salt = 0) {
  const PlannedParam& param = plan.params[view.param];
  const auto number = [&](int64_t i, int kind) {
    return float(int64_t(Mix(i * 7919 + view.param * 31 + kind + salt * 3) %
                         20001) -
                 10000) /
           8192;
  };
  StateValues values;
  const int64_t first = view.first_row * param.row_elements;
  for (int64_t i = 0; i < view.state_rows * view.state_row_elements; ++i) {
    values.momentum.push_back(number(first + i, 1));
    if (!param.element_state || !param.keeps_second_moment()) continue;
    values.second_moment.push_back(std::abs(number(first + i, 2)));
  }
  for (int64_t b = 0; b < view.blocks; ++b) {
    values.second_moment.push_back(std::abs(number(view.first_block + b, 2)));
  }
  for (int64_t c = 0; c < view.matrices * param.row_elements; ++c) {
    values.column_moments.push_back(
        std::abs(number(view.first_matrix * param.row_elements + c, 3)));
  }
  return values;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANK_STATE_H_
