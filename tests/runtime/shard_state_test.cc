// State by rows: who has which, and what is written and read there.

#include "runtime/state/shard_state.h"

#include <cmath>
#include <cstring>
#include <mutex>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "support/rank_state.h"

namespace zeromini {
namespace {

constexpr Algorithm kAlgorithms[] = {Algorithm::kAdamMini, Algorithm::kAdamW,
                                     Algorithm::kSgd};
constexpr StateFormat kFormats[] = {StateFormat::kFloat32,
                                    StateFormat::kBFloat16, StateFormat::kInt8};

bool HasState(const PlannedParam& param) { return param.has_state(); }

// All views of this rank.
std::vector<StateView> AllViews(const Plan& plan, const ShardState& state) {
  std::vector<StateView> all;
  for (int p = 0; p < int(plan.params.size()); ++p) {
    const std::vector<StateView> views = state.Views(p);
    EXPECT_TRUE(HasState(plan.params[p]) || views.empty());
    all.insert(all.end(), views.begin(), views.end());
  }
  return all;
}

// Calls `body` on each rank of each algorithm, format and number of ranks.
template <typename Body>
void ForEachState(const Body& body) {
  const std::vector<ParamSpec> specs = StateSpecs();
  for (Algorithm algorithm : kAlgorithms) {
    for (StateFormat format : kFormats) {
      for (int ranks : {1, 2, 3, 5, 8}) {
        SCOPED_TRACE(testing::Message()
                     << ranks << " ranks, " << AlgorithmName(algorithm) << ", "
                     << StateFormatName(format));
        const OptimizerOptions options = StateOptions(algorithm, format);
        const Plan plan = StatePlan(specs, options, ranks);
        RunRanks(ranks, [&](int, Communicator& group) {
          RankState rank(plan, options, group);
          body(plan, rank);
        });
      }
    }
  }
}

// Matrices of the parameter with a row among these.
int64_t MatricesWithin(const PlannedParam& param, int64_t first_row,
                       int64_t rows) {
  const std::vector<ColumnedMatrix> matrices = MatricesOf(param);
  return std::count_if(matrices.begin(), matrices.end(),
                       [&](const ColumnedMatrix& matrix) {
                         return matrix.first_row < first_row + rows &&
                                matrix.first_row + matrix.rows > first_row;
                       });
}

void ExpectRowsOnce(const Plan& plan, std::vector<StateView> views) {
  std::sort(
      views.begin(), views.end(), [](const StateView& a, const StateView& b) {
        return std::tie(a.param, a.first_row) < std::tie(b.param, b.first_row);
      });
  auto view = views.begin();
  for (int p = 0; p < int(plan.params.size()); ++p) {
    const PlannedParam& param = plan.params[p];
    const std::vector<int64_t> blocks = BlocksOfRows(param);
    int64_t row = 0;
    for (; view != views.end() && view->param == p; ++view) {
      EXPECT_EQ(view->first_row, row) << param.name;
      EXPECT_GT(view->rows, 0);
      row += view->rows;
      EXPECT_EQ(view->state_rows, view->rows);
      EXPECT_EQ(view->state_row_elements, param.row_elements);
      if (blocks.empty()) {
        EXPECT_EQ(view->blocks, 0);
        continue;
      }
      EXPECT_EQ(view->first_block, blocks[view->first_row]) << param.name;
      const bool counts = FormsOfRows(param)[row - 1] != MomentForm::kColumns;
      EXPECT_EQ(view->first_block + view->blocks,
                blocks[row - 1] + (counts ? 1 : 0));
      EXPECT_EQ(view->matrices,
                MatricesWithin(param, view->first_row, view->rows));
    }
    EXPECT_EQ(row, HasState(param) ? param.rows : 0) << param.name;
  }
  EXPECT_EQ(view, views.end());
}

TEST(ShardStateTest, EachCopyHasEveryRowInOneViewOfOneRank) {
  const std::vector<ParamSpec> specs = StateSpecs();
  bool splits = false;
  for (Algorithm algorithm : kAlgorithms) {
    for (auto [ranks, copies] :
         {std::pair(1, 1), {2, 1}, {3, 1}, {5, 1}, {8, 1}, {1, 3}, {2, 2}}) {
      SCOPED_TRACE(testing::Message() << copies << " copies of " << ranks);
      OptimizerOptions options = StateOptions(algorithm);
      options.shard_ranks = ranks;
      const Plan plan = StatePlan(specs, options, ranks, copies);
      splits = splits || !plan.split_blocks.empty();
      std::vector<std::vector<StateView>> views(copies);
      std::mutex mutex;
      const int shards = ranks;
      RunRanks(ranks * copies, [&](int number, Communicator& group) {
        RankState rank(plan, options, group);
        const std::vector<StateView> here = AllViews(plan, *rank.state);
        std::lock_guard<std::mutex> lock(mutex);
        auto& copy = views[number / shards];
        copy.insert(copy.end(), here.begin(), here.end());
      });
      for (const auto& copy : views) ExpectRowsOnce(plan, copy);
    }
  }
  EXPECT_TRUE(splits) << "no rank has a part of a block";
}

TEST(ShardStateTest, WhatIsWrittenIsReadAgainAndExactlyAsFp32) {
  ForEachState([](const Plan& plan, RankState& rank) {
    const std::vector<StateView> views = AllViews(plan, *rank.state);
    for (const StateView& view : views) {
      rank.Write(view, NumbersOf(plan, view));
    }
    for (const StateView& view : views) {
      const StateValues written = NumbersOf(plan, view);
      const StateValues read = rank.Read(view);
      const bool exact = view.format == StateFormat::kFloat32;
      ASSERT_EQ(read.momentum.size(), written.momentum.size());
      ASSERT_EQ(read.second_moment.size(), written.second_moment.size());
      if (exact) {
        EXPECT_EQ(read.momentum, written.momentum);
      }
      if (exact || plan.params[view.param].blocks.size() > 0) {
        EXPECT_EQ(read.second_moment, written.second_moment);
      }
      EXPECT_EQ(read.column_moments, written.column_moments);
      // Of at most 1.23; int8 has 7 bits of the largest of a group.
      for (size_t i = 0; i < read.momentum.size(); ++i) {
        ASSERT_NEAR(read.momentum[i], written.momentum[i], 0.01);
      }
      for (size_t i = 0; i < read.second_moment.size(); ++i) {
        ASSERT_NEAR(read.second_moment[i], written.second_moment[i], 0.05);
      }
    }
  });
}

// A view's state as it is stored, but for int8 second moments.
std::string StoredBytes(const PlannedParam& param, const StateView& view) {
  std::string bytes;
  const auto add = [&](const void* from, int64_t count) {
    if (from != nullptr) bytes.append(static_cast<const char*>(from), count);
  };
  const int64_t elements = view.state_rows * view.state_row_elements;
  const int64_t scales =
      2 * view.state_rows * ScalesPerRow(view.format, view.state_row_elements);
  add(view.momentum, elements * StateBytes(view.format));
  add(view.momentum_scales, scales);
  if (view.second_moment_scales != nullptr) return bytes;
  add(view.second_moment, param.element_state
                              ? elements * StateBytes(view.format)
                              : view.blocks * 4);
  add(view.column_moments, view.matrices * param.row_elements * 4);
  return bytes;
}

TEST(ShardStateTest, WritingWhatWasReadChangesNoBitButOfInt8SecondMoments) {
  ForEachState([](const Plan& plan, RankState& rank) {
    for (const StateView& view : AllViews(plan, *rank.state)) {
      const PlannedParam& param = plan.params[view.param];
      rank.Write(view, NumbersOf(plan, view));
      const std::string before = StoredBytes(param, view);
      EXPECT_NE(before, std::string(before.size(), '\0'));
      const StateValues values = rank.Read(view);
      rank.Write(view, NumbersOf(plan, view, /*salt=*/1));
      EXPECT_NE(StoredBytes(param, view), before);
      rank.Write(view, values);
      EXPECT_EQ(StoredBytes(param, view), before) << param.name;
      const StateValues again = rank.Read(view);
      for (size_t i = 0; i < values.second_moment.size(); ++i) {
        ASSERT_NEAR(again.second_moment[i], values.second_moment[i], 0.01);
      }
    }
  });
}

TEST(ShardStateTest, ASliceIsThePartOfItsView) {
  ForEachState([](const Plan& plan, RankState& rank) {
    for (const StateView& view : AllViews(plan, *rank.state)) {
      const PlannedParam& param = plan.params[view.param];
      const std::vector<int64_t> blocks = BlocksOfRows(param);
      rank.Write(view, NumbersOf(plan, view));
      const StateValues all = rank.Read(view);
      const int64_t columns = view.state_row_elements;
      const int64_t step = std::max<int64_t>(1, view.rows / 7);
      for (int64_t first = 0; first < view.rows; first += step) {
        for (int64_t rows = 1; first + rows <= view.rows; rows += step) {
          const StateView slice =
              rank.state->Slice(view, {view.first_row + first, rows});
          EXPECT_EQ(slice.first_row, view.first_row + first);
          EXPECT_EQ(slice.rows, rows);
          const StateValues part = rank.Read(slice);
          const auto stretch = [&](const std::vector<float>& of, int64_t begin,
                                   int64_t count) {
            return std::vector<float>(of.begin() + begin,
                                      of.begin() + begin + count);
          };
          ASSERT_EQ(part.momentum,
                    stretch(all.momentum, first * columns, rows * columns));
          if (!param.keeps_second_moment()) continue;
          if (param.element_state) {
            ASSERT_EQ(
                part.second_moment,
                stretch(all.second_moment, first * columns, rows * columns));
            continue;
          }
          const int64_t block = blocks[slice.first_row];
          const int64_t last = blocks[slice.first_row + rows - 1];
          ASSERT_EQ(slice.first_block, block) << param.name;
          const bool counts = FormsOfRows(param)[slice.first_row + rows - 1] !=
                              MomentForm::kColumns;
          ASSERT_EQ(slice.blocks, last - block + (counts ? 1 : 0))
              << param.name;
          ASSERT_EQ(slice.matrices,
                    MatricesWithin(param, slice.first_row, rows));
          ASSERT_EQ(part.column_moments,
                    stretch(all.column_moments,
                            (slice.first_matrix - view.first_matrix) * columns,
                            slice.matrices * columns));
          ASSERT_EQ(part.second_moment,
                    stretch(all.second_moment, block - view.first_block,
                            slice.blocks));
        }
      }
    }
  });
}

TEST(ShardStateTest, MastersOfViewsAndSlicesAreRowsThatNoOtherHas) {
  for (MasterFormat master :
       {MasterFormat::kNone, MasterFormat::kFloat32, MasterFormat::kRemainder16,
        MasterFormat::kRemainder8}) {
    for (DType dtype : {DType::kBFloat16, DType::kFloat32}) {
      OptimizerOptions options = StateOptions(Algorithm::kAdamMini);
      options.master = master;
      options.weight_wire =
          dtype == DType::kFloat32 ? DType::kBFloat16 : DType::kFloat32;
      std::vector<ParamSpec> specs = StateSpecs();
      for (ParamSpec& spec : specs) spec.dtype = dtype;
      const MasterFormat format =
          dtype == DType::kFloat32 ? MasterFormat::kFloat32 : master;
      const Plan plan = StatePlan(specs, options, 3);
      RunRanks(3, [&](int, Communicator& group) {
        RankState rank(plan, options, group);
        const std::vector<StateView> views = AllViews(plan, *rank.state);
        const auto bytes_of = [&](const StateView& view) {
          return view.rows * plan.params[view.param].row_elements *
                 MasterBytes(format);
        };
        for (size_t v = 0; v < views.size(); ++v) {
          EXPECT_EQ(views[v].master_format, format);
          ASSERT_EQ(views[v].master == nullptr, format == MasterFormat::kNone);
          if (views[v].master == nullptr) continue;
          std::memset(views[v].master, int(v + 1), bytes_of(views[v]));
        }
        for (size_t v = 0; v < views.size(); ++v) {
          const auto* at = static_cast<const char*>(views[v].master);
          if (at == nullptr) continue;
          EXPECT_EQ(std::string(at, bytes_of(views[v])),
                    std::string(bytes_of(views[v]), char(v + 1)));
          const int64_t last = views[v].rows - 1;
          const StateView slice =
              rank.state->Slice(views[v], {views[v].first_row + last, 1});
          EXPECT_EQ(static_cast<const char*>(slice.master) + bytes_of(slice),
                    at + bytes_of(views[v]));
        }
      });
    }
  }
}

TEST(ShardStateTest, ValuesOfAnotherSizeAreRefusedWithBothNumbers) {
  const std::vector<ParamSpec> specs = {
      Spec("rows", {6, 10}, BlockRule::Rows(), 0)};
  const OptimizerOptions options = StateOptions(Algorithm::kAdamMini);
  const Plan plan = StatePlan(specs, options, 1);
  const auto self = Self();
  RankState rank(plan, options, *self);
  const StateView view = rank.state->Views(0).front();
  const StateValues kept = NumbersOf(plan, view);
  rank.Write(view, kept);
  for (int which : {0, 1}) {
    StateValues wrong = NumbersOf(plan, view, 1);
    (which == 0 ? wrong.momentum : wrong.second_moment).push_back(1);
    const absl::Status refused =
        rank.state->Write(view, wrong, RankState::kPatience);
    EXPECT_TRUE(absl::IsInvalidArgument(refused));
    EXPECT_THAT(refused.message(),
                testing::AllOf(
                    testing::HasSubstr("'rows'"),
                    testing::HasSubstr("60 momenta and 6 second moments"),
                    testing::HasSubstr(which == 0 ? "61 and 6" : "60 and 7")));
    EXPECT_EQ(rank.Read(view).momentum, kept.momentum);
  }
}

TEST(ShardStateTest, EachParameterHasACountOfItsOwn) {
  const std::vector<ParamSpec> specs = StateSpecs();
  const OptimizerOptions options = StateOptions(Algorithm::kAdamW);
  const Plan plan = StatePlan(specs, options, 1);
  const auto self = Self();
  RankState rank(plan, options, *self);
  const int params = int(plan.params.size());
  for (int p = 0; p < params; ++p) {
    ASSERT_OK_AND_ASSIGN(const int64_t first,
                         rank.state->ReadSteps(p, RankState::kPatience));
    EXPECT_EQ(first, 0);
    ASSERT_OK(rank.state->WriteSteps(p, (int64_t{1} << 40) + p,
                                     RankState::kPatience));
  }
  for (int p = 0; p < params; ++p) {
    ASSERT_OK_AND_ASSIGN(const int64_t steps,
                         rank.state->ReadSteps(p, RankState::kPatience));
    EXPECT_EQ(steps, (int64_t{1} << 40) + p);
  }
}

}  // namespace
}  // namespace zeromini
