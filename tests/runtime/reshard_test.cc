// State that moves between two plans: MakeMap() says what, views of the old
// state give it, an all-to-all carries it, views of the new state take it.

#include <algorithm>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "runtime/state/state_gather.h"
#include "support/rank_state.h"
#include "zeromini/plan_map.h"

namespace zeromini {
namespace {

struct Sides {
  Plan from;
  Plan to;
  OptimizerOptions options;
};

int WorldOf(const Plan& plan) {
  return plan.options.ranks * plan.options.replicas;
}

// The view that holds the row.
StateView ViewAt(const ShardState& state, int param, int64_t row) {
  for (const StateView& view : state.Views(param)) {
    const int64_t end = view.first_row + view.rows;
    if (view.first_row <= row && row < end) return view;
  }
  ADD_FAILURE() << "no view of parameter " << param << " has row " << row;
  return {};
}

// What a move carries: momentum, then elements' second moments or the scalars
// of its blocks and the columns of its matrices.
void Append(const Sides& sides, const RankState& old, const Move& move,
            std::vector<float>* out) {
  const StateView slice =
      old.state->Slice(ViewAt(*old.state, move.from_param, move.first_row),
                       {move.first_row, move.rows});
  const StateValues values = old.Read(slice);
  out->insert(out->end(), values.momentum.begin(), values.momentum.end());
  auto begin = values.second_moment.begin();
  auto end = values.second_moment.end();
  if (!sides.from.params[move.from_param].element_state) {
    begin += move.first_block - slice.first_block;
    end = begin + move.blocks;
  }
  out->insert(out->end(), begin, end);
  const int64_t columns = sides.from.params[move.from_param].row_elements;
  const auto first = values.column_moments.begin() +
                     (move.first_matrix - slice.first_matrix) * columns;
  if (move.matrices == 0) return;
  out->insert(out->end(), first, first + move.matrices * columns);
}

// A new view as it fills.
struct Filling {
  StateView view;
  StateValues values;
};

std::vector<Filling> EmptyViews(const Plan& plan, const ShardState& state) {
  std::vector<Filling> all;
  for (int p = 0; p < int(plan.params.size()); ++p) {
    for (const StateView& view : state.Views(p)) {
      // Any other number than the right one: nothing may be left of it.
      all.push_back({view, NumbersOf(plan, view, /*salt=*/5)});
    }
  }
  return all;
}

// Takes a move from `in`; returns what is behind it.
const float* Take(const Sides& sides, const Move& move, const float* in,
                  std::vector<Filling>* views) {
  const PlannedParam& param = sides.to.params[move.to_param];
  const int64_t elements = StateElements(param, move.first_row, move.rows);
  const bool by_element = param.element_state && param.keeps_second_moment();
  const float* const moments = in + elements;
  for (auto& [view, values] : *views) {
    if (view.param != move.to_param) continue;
    const int64_t skipped = move.first_row - view.first_row;
    if (skipped >= 0 && skipped + move.rows <= view.rows) {
      const int64_t at = skipped * view.state_row_elements;
      std::copy_n(in, elements, values.momentum.begin() + at);
      if (by_element) {
        std::copy_n(moments, elements, values.second_moment.begin() + at);
      }
    }
    for (int64_t b = 0; !param.element_state && b < move.blocks; ++b) {
      const int64_t at = move.first_block + b - view.first_block;
      if (at >= 0 && at < view.blocks) values.second_moment[at] = moments[b];
    }
    // A rank has a matrix's columns once, whichever view tells of them.
    for (int64_t m = 0; m < move.matrices; ++m) {
      const int64_t at = move.first_matrix + m - view.first_matrix;
      if (at < 0 || at >= view.matrices) continue;
      std::copy_n(moments + move.blocks + m * param.row_elements,
                  param.row_elements,
                  values.column_moments.begin() + at * param.row_elements);
    }
  }
  if (by_element) return moments + elements;
  if (param.element_state) return moments;
  return moments + move.blocks + move.matrices * param.row_elements;
}

// Collective over the world; null where a rank has no part in a plan.
void Reshard(const Sides& sides, Communicator& world, const RankState* old,
             RankState* now) {
  ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(sides.from, sides.to));
  std::vector<int64_t> sends(world.size(), 0), receives(world.size(), 0);
  for (const MoveTotals& totals : TotalsOf(sides.to, map)) {
    const int64_t count = totals.momentum + totals.second_moments;
    if (totals.from_rank == world.rank()) sends[totals.to_rank] = count;
    if (totals.to_rank == world.rank()) receives[totals.from_rank] = count;
  }
  std::vector<float> out, in;
  for (const Move& move : map.moves) {
    if (move.from_rank == world.rank()) Append(sides, *old, move, &out);
  }
  int64_t sent = 0, received = 0;
  for (int64_t count : sends) sent += count;
  for (int64_t count : receives) received += count;
  ASSERT_EQ(static_cast<int64_t>(out.size()), sent);
  in.resize(received);
  ASSERT_OK(world.AllToAllV(out.data(), sends, in.data(), receives,
                            DType::kFloat32, Exchange{Purpose::kState}));
  ASSERT_OK(world.Finish(absl::Now() + absl::Seconds(20)));
  if (now == nullptr) return;
  std::vector<Filling> views = EmptyViews(sides.to, *now->state);
  const float* at = in.data();
  for (const Move& move : map.moves) {
    if (move.to_rank == world.rank()) at = Take(sides, move, at, &views);
  }
  EXPECT_EQ(at, in.data() + in.size());
  for (const auto& [view, values] : views) now->Write(view, values);
}

// The full state of each parameter, on the ranks of `group`.
std::vector<Optimizer::ParamState> GatherAll(const Plan& plan,
                                             const RankState& state) {
  std::vector<Optimizer::ParamState> all;
  for (int p = 0; p < int(plan.params.size()); ++p) {
    all.emplace_back();
    if (!plan.params[p].has_state()) continue;
    auto gather = StateGather::Create(
        plan, p, *state.groups.of(/*expert=*/false).shards, *state.device);
    EXPECT_OK(gather.status());
    auto got = gather->Run(*state.state, RankState::kPatience);
    EXPECT_OK(got.status());
    all.back() = *std::move(got);
  }
  return all;
}

// Writes numbers to the old state, moves them, and compares all of it.
void ExpectMoved(const Sides& sides) {
  const int before = WorldOf(sides.from), after = WorldOf(sides.to);
  RunRanks(std::max(before, after), [&](int number, Communicator& world) {
    const auto part = [&](int ranks) {
      auto group = world.Split(number < ranks ? 0 : -1, number);
      EXPECT_OK(group.status());
      return *std::move(group);
    };
    const auto old_group = part(before), new_group = part(after);
    std::unique_ptr<RankState> old, now;
    OptimizerOptions options = sides.options;
    std::vector<Optimizer::ParamState> expected, got;
    if (old_group != nullptr) {
      options.shard_ranks = sides.from.options.ranks;
      old = std::make_unique<RankState>(sides.from, options, *old_group);
      for (int p = 0; p < int(sides.from.params.size()); ++p) {
        for (const StateView& view : old->state->Views(p)) {
          old->Write(view, NumbersOf(sides.from, view));
        }
      }
      expected = GatherAll(sides.from, *old);
    }
    if (new_group != nullptr) {
      options.shard_ranks = sides.to.options.ranks;
      now = std::make_unique<RankState>(sides.to, options, *new_group);
    }
    Reshard(sides, world, old.get(), now.get());
    if (now != nullptr) got = GatherAll(sides.to, *now);
    if (old == nullptr || now == nullptr) return;  // Rank 0 has both.
    for (size_t p = 0; p < got.size(); ++p) {
      const std::string& name = sides.to.params[p].name;
      EXPECT_EQ(got[p].momentum, expected[p].momentum) << name;
      EXPECT_EQ(got[p].second_moment, expected[p].second_moment) << name;
    }
  });
}

TEST(ReshardTest, StateThatMovesIsWhatGatheringItGives) {
  const std::vector<ParamSpec> specs = StateSpecs();
  for (Algorithm algorithm :
       {Algorithm::kAdamMini, Algorithm::kAdamW, Algorithm::kSgd}) {
    const OptimizerOptions options = StateOptions(algorithm);
    for (auto [from, to] :
         {std::pair(1, 3), {3, 1}, {2, 3}, {3, 2}, {5, 8}, {8, 5}, {3, 3}}) {
      SCOPED_TRACE(testing::Message() << AlgorithmName(algorithm) << " from "
                                      << from << " to " << to << " ranks");
      ExpectMoved({StatePlan(specs, options, from),
                   StatePlan(specs, options, to), options});
    }
  }
}

TEST(ReshardTest, CopiesMayComeAndGo) {
  const std::vector<ParamSpec> specs = StateSpecs();
  const OptimizerOptions options = StateOptions(Algorithm::kAdamMini);
  ExpectMoved(
      {StatePlan(specs, options, 2, 2), StatePlan(specs, options, 3), options});
  ExpectMoved(
      {StatePlan(specs, options, 3), StatePlan(specs, options, 2, 2), options});
}

TEST(ReshardTest, FormatsOfFewerBitsMoveToTheBit) {
  const std::vector<ParamSpec> specs = StateSpecs();
  for (auto [algorithm, format] :
       {std::pair(Algorithm::kAdamMini, StateFormat::kInt8),
        {Algorithm::kAdamMini, StateFormat::kBFloat16},
        {Algorithm::kAdamW, StateFormat::kBFloat16}}) {
    const OptimizerOptions options = StateOptions(algorithm, format);
    ExpectMoved(
        {StatePlan(specs, options, 3), StatePlan(specs, options, 5), options});
  }
}

}  // namespace
}  // namespace zeromini
