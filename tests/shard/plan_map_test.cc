// State that moves between two plans arrives whole, wherever it came from.

#include "zeromini/plan_map.h"

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "shard/planner.h"
#include "tests/support/plan_specs.h"
#include "tests/support/status_matchers.h"

namespace zeromini {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

// What one rank has: rows and block scalars by a tensor's first name in the
// alphabet, with what distinguishes the copies of one expert.
struct Held {
  std::map<std::pair<std::string, int64_t>, int> rows;
  std::map<std::pair<std::string, int64_t>, int> scalars;

  bool operator==(const Held& other) const {
    return rows == other.rows && scalars == other.scalars;
  }
};

std::string KeyOf(const Plan& plan, int param) {
  std::string key = plan.params[param].name;
  for (int sharer : plan.params[param].sharers) {
    key = std::min(key, plan.params[sharer].name);
  }
  return key;
}

std::vector<Held> HeldBy(const Plan& plan, int slices = 1) {
  const int ranks = plan.options.ranks;
  std::vector<Held> world(ranks * plan.options.replicas);
  for (size_t rank = 0; rank < world.size(); ++rank) {
    const int number = static_cast<int>(rank);
    for (const BucketPlan& bucket : plan.buckets) {
      const int slice = bucket.expert ? number % slices : 0;
      const int position = bucket.expert ? number / slices : number;
      for (const zeromini::Run& run : bucket.runs[position % ranks]) {
        const std::string key = KeyOf(plan, run.param);
        for (int64_t row = 0; row < run.rows; ++row) {
          world[rank].rows[{key, run.first_row + row}] = slice;
        }
        for (const BlockSpan& span : SpansOf(plan.params[run.param], run)) {
          for (int64_t block = 0; block < span.blocks; ++block) {
            world[rank].scalars[{key, span.first_block + block}] = slice;
          }
        }
      }
    }
  }
  return world;
}

void Carry(const Plan& to, const Move& move, const std::vector<Held>& world,
           std::vector<Held>* moved) {
  const std::string key = KeyOf(to, move.to_param);
  const Held& source = world.at(move.from_rank);
  Held& target = moved->at(move.to_rank);
  ASSERT_GT(move.rows, 0);
  for (int64_t i = 0; i < move.rows; ++i) {
    const std::pair<std::string, int64_t> row = {key, move.first_row + i};
    ASSERT_EQ(source.rows.count(row), 1) << key << " " << row.second;
    ASSERT_TRUE(target.rows.emplace(row, source.rows.at(row)).second);
    if (move.from_rank == move.to_rank) continue;
    const size_t own = static_cast<size_t>(move.to_rank);
    ASSERT_TRUE(own >= world.size() || world[own].rows.count(row) == 0)
        << "rank " << own << " has row " << row.second << " of " << key;
  }
  for (int64_t i = 0; i < move.blocks; ++i) {
    const std::pair<std::string, int64_t> block = {key, move.first_block + i};
    ASSERT_EQ(source.scalars.count(block), 1) << key << " " << block.second;
    ASSERT_TRUE(target.scalars.emplace(block, source.scalars.at(block)).second);
  }
}

std::vector<Held> MovedBy(const PlanMap& map, const Plan& to,
                          const std::vector<Held>& world) {
  std::vector<Held> moved(to.options.ranks * to.options.replicas);
  for (const Move& move : map.moves) Carry(to, move, world, &moved);
  return moved;
}

std::vector<ParamSpec> RandomModel(std::mt19937& random) {
  std::vector<ParamSpec> specs;
  const int tensors = 1 + static_cast<int>(random() % 14);
  for (int i = 0; i < tensors; ++i) {
    ParamSpec spec = RandomSpec(random, i);
    if (random() % 8 == 0) spec.frozen = true;
    if (random() % 6 == 0) spec.hyper_group = 1;
    specs.push_back(spec);
    if (random() % 6 != 0) continue;
    spec.tied_to = spec.name;
    spec.name = absl::StrCat(spec.name, ".tied");
    specs.push_back(spec);
  }
  return specs;
}

// Few blocks, larger than most ranks' share, and several in a segment.
std::vector<ParamSpec> ModelOfLargeBlocks(std::mt19937& random) {
  std::vector<ParamSpec> specs;
  const int tensors = 1 + static_cast<int>(random() % 2);
  for (int i = 0; i < tensors; ++i) {
    const int64_t rows = 3 + static_cast<int64_t>(random() % 20);
    const int64_t others = 3 + static_cast<int64_t>(random() % 20);
    const int64_t repeats = 1 + static_cast<int64_t>(random() % 2);
    specs.push_back(Spec(absl::StrCat("large", i),
                         {repeats * (rows + others), 4},
                         BlockRule::Fused({{rows, rows}, {others, others}})));
  }
  return specs;
}

// Other order, and which name of a tied tensor comes first.
std::vector<ParamSpec> Shuffled(std::vector<ParamSpec> specs,
                                std::mt19937& random) {
  for (size_t i = 0; i + 1 < specs.size(); ++i) {
    if (specs[i + 1].tied_to.empty() || random() % 2 == 0) continue;
    std::swap(specs[i].name, specs[i + 1].name);
    specs[i + 1].tied_to = specs[i].name;
  }
  std::shuffle(specs.begin(), specs.end(), random);
  std::stable_partition(specs.begin(), specs.end(), [](const ParamSpec& spec) {
    return spec.tied_to.empty();
  });
  return specs;
}

PlanOptions RandomOptions(Algorithm algorithm, int ranks,
                          std::mt19937& random) {
  PlanOptions options;
  options.algorithm = algorithm;
  options.group_algorithms = {std::nullopt, Algorithm::kSgd};
  options.ranks = ranks;
  options.replicas = 1 + static_cast<int>(random() % 3);
  options.stage = 1 + static_cast<int>(random() % 3);
  options.bucket_bytes = random() % 3 == 0 ? 4096 : 0;
  return options;
}

// Every tensor whose name ends in an even digit is one projected unit.
std::vector<UnitSegment> Projected(const PlannedParam& param) {
  const std::string name = param.name.substr(0, param.name.find(".tied"));
  if (param.rows < 3 || !param.blocks.empty() || (name.back() - '0') % 2 != 0) {
    return {};
  }
  return {{param.rows, param.rows, 2 * param.row_elements + 1, 7}};
}

constexpr int kRankCounts[] = {1, 2, 3, 5, 8};
constexpr Algorithm kAlgorithms[] = {Algorithm::kAdamW, Algorithm::kAdamMini,
                                     Algorithm::kSgd};

// Calls `check` with two plans of each of many models.
template <typename Check>
void ForRandomPlans(const Check& check) {
  std::mt19937 random(20250301);
  for (int model = 0; model < 32; ++model) {
    const std::vector<ParamSpec> specs =
        model < 16 ? RandomModel(random) : ModelOfLargeBlocks(random);
    const Algorithm algorithm = kAlgorithms[model % 3];
    for (int from_ranks : kRankCounts) {
      for (int to_ranks : kRankCounts) {
        SCOPED_TRACE(absl::StrCat("model ", model, ", ", from_ranks, " to ",
                                  to_ranks, " ranks"));
        ASSERT_OK_AND_ASSIGN(
            const Plan from,
            MakePlanWithUnits(specs,
                              RandomOptions(algorithm, from_ranks, random),
                              Projected));
        ASSERT_OK_AND_ASSIGN(
            const Plan to,
            MakePlanWithUnits(Shuffled(specs, random),
                              RandomOptions(algorithm, to_ranks, random),
                              Projected));
        check(from, to);
      }
    }
  }
}

TEST(PlanMapTest, BringsEveryRowAndScalarOnceFromARankThatHasIt) {
  size_t splits = 0;
  ForRandomPlans([&](const Plan& from, const Plan& to) {
    ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(from, to));
    EXPECT_TRUE(MovedBy(map, to, HeldBy(from)) == HeldBy(to));
    splits += from.split_blocks.size() * to.split_blocks.size();
  });
  EXPECT_GT(splits, 0);
}

TEST(PlanMapTest, GoesThereAndBackToTheSameState) {
  ForRandomPlans([](const Plan& from, const Plan& to) {
    ASSERT_OK_AND_ASSIGN(const PlanMap there, MakeMap(from, to));
    ASSERT_OK_AND_ASSIGN(const PlanMap back, MakeMap(to, from));
    const std::vector<Held> held = HeldBy(from);
    EXPECT_TRUE(MovedBy(back, from, MovedBy(there, to, held)) == held);
  });
}

TEST(PlanMapTest, SendsNothingBetweenEqualPlans) {
  ForRandomPlans([](const Plan& from, const Plan&) {
    ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(from, from));
    for (const Move& move : map.moves) {
      ASSERT_EQ(move.from_rank, move.to_rank);
      ASSERT_EQ(move.from_param, move.to_param);
    }
  });
}

TEST(PlanMapTest, HasOneOrderForBothSidesOfAMessage) {
  ForRandomPlans([](const Plan& from, const Plan& to) {
    ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(from, to));
    const auto key = [](const Move& m) {
      return std::make_tuple(m.from_rank, m.to_rank, m.to_param, m.first_row);
    };
    for (size_t i = 1; i < map.moves.size(); ++i) {
      ASSERT_LT(key(map.moves[i - 1]), key(map.moves[i]));
    }
  });
}

Plan PlanOf(const std::vector<ParamSpec>& specs, int ranks, int replicas = 1) {
  PlanOptions options;
  options.ranks = ranks;
  options.replicas = replicas;
  absl::StatusOr<Plan> plan = MakePlan(specs, options);
  EXPECT_OK(plan);
  return *std::move(plan);
}

TEST(PlanMapTest, SendsTheScalarOfASplitBlockOnceToEachOwner) {
  const std::vector<ParamSpec> specs = {Spec("w", {12, 4}, BlockRule::Whole())};
  ASSERT_OK_AND_ASSIGN(const PlanMap map,
                       MakeMap(PlanOf(specs, 4), PlanOf(specs, 2)));
  ASSERT_THAT(map.moves, SizeIs(4));
  std::vector<std::pair<int, int64_t>> blocks_of_source;
  for (const Move& move : map.moves) {
    blocks_of_source.push_back({move.from_rank, move.blocks});
  }
  // Rank 0 keeps rows 0 to 2 and gets 3 to 5 from rank 1.
  EXPECT_THAT(blocks_of_source,
              ElementsAre(std::make_pair(0, 1), std::make_pair(1, 0),
                          std::make_pair(2, 1), std::make_pair(3, 0)));
}

TEST(PlanMapTest, LeavesTheScalarOfASplitBlockWhereItIs) {
  const std::vector<ParamSpec> specs = {
      Spec("w", {6, 4}, BlockRule::Fused({{2, 2}, {4, 4}}))};
  Plan from = PlanOf(specs, 2);
  Plan to = from;
  from.buckets[0].runs = {{{0, 0, 4}}, {{0, 4, 2}}};
  to.buckets[0].runs = {{}, {{0, 0, 6}}};
  ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(from, to));
  ASSERT_THAT(map.moves, SizeIs(2));
  EXPECT_EQ(map.moves[0].rows, 4);
  EXPECT_EQ(map.moves[0].first_block, 0);
  EXPECT_EQ(map.moves[0].blocks, 1);
  EXPECT_EQ(map.moves[1].first_block, 1);
  EXPECT_EQ(map.moves[1].blocks, 1);
}

TEST(PlanMapTest, LetsReplicasTakeTurnsAsSources) {
  const std::vector<ParamSpec> specs = {Spec("w", {16, 4}, BlockRule::Rows())};
  ASSERT_OK_AND_ASSIGN(const PlanMap map,
                       MakeMap(PlanOf(specs, 2, 2), PlanOf(specs, 8)));
  std::set<int> sources;
  for (const Move& move : map.moves) sources.insert(move.from_rank);
  EXPECT_THAT(sources, ElementsAre(0, 1, 2, 3));
}

TEST(PlanMapTest, MovesNothingOfFrozenAndTiedParameters) {
  std::vector<ParamSpec> specs = {Spec("a", {4, 2}, BlockRule::Rows()),
                                  Spec("b", {4, 2}, BlockRule::Rows()),
                                  Spec("c", {4, 2}, BlockRule::Rows())};
  specs[1].tied_to = specs[0].name;
  specs[2].frozen = true;
  ASSERT_OK_AND_ASSIGN(const PlanMap map,
                       MakeMap(PlanOf(specs, 1), PlanOf(specs, 1)));
  ASSERT_THAT(map.moves, SizeIs(1));
  EXPECT_EQ(map.moves[0].to_param, 0);
}

TEST(PlanMapTest, KeepsTheExpertsOfASliceInIt) {
  std::vector<ParamSpec> specs = {Spec("dense", {24, 2}, BlockRule::Rows()),
                                  Spec("own", {24, 2}, BlockRule::Rows())};
  specs[1].expert = true;
  for (const auto& [from_replicas, to_ranks] :
       {std::make_pair(2, 3), std::make_pair(6, 1), std::make_pair(4, 8)}) {
    const Plan from = PlanOf(specs, 2, from_replicas);
    const Plan to = PlanOf(specs, to_ranks, 2);
    ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(from, to, 2));
    EXPECT_TRUE(MovedBy(map, to, HeldBy(from, 2)) == HeldBy(to, 2));
  }
  EXPECT_THAT(MakeMap(PlanOf(specs, 2), PlanOf(specs, 2, 2), 2),
              StatusIs(absl::StatusCode::kInvalidArgument,
                       HasSubstr("expert_slices 2 do not divide the 1")));
}

size_t RunsOf(const Plan& plan) {
  size_t runs = 0;
  for (const BucketPlan& bucket : plan.buckets) {
    for (const auto& of_rank : bucket.runs) runs += of_rank.size();
  }
  return runs;
}

TEST(PlanMapTest, HasNoMoreMovesThanTheTwoPlansHaveRunsInLlama2) {
  ASSERT_OK_AND_ASSIGN(const ModelPreset preset, FindPreset("llama-2-7b"));
  for (Algorithm algorithm : kAlgorithms) {
    PlanOptions options;
    options.algorithm = algorithm;
    options.model = preset.shape;
    options.ranks = 64;
    ASSERT_OK_AND_ASSIGN(const Plan from, MakePlan(preset.params, options));
    options.ranks = 48;
    ASSERT_OK_AND_ASSIGN(const Plan to, MakePlan(preset.params, options));
    ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(from, to));
    EXPECT_LE(map.moves.size(), RunsOf(from) + RunsOf(to));
    MoveTotals sum;
    for (const MoveTotals& pair : TotalsOf(to, map)) {
      sum.momentum += pair.momentum;
      sum.second_moments += pair.second_moments;
    }
    int64_t second_moments = 0;
    for (const PlannedParam& param : to.params) {
      second_moments += param.blocks_total;
    }
    EXPECT_EQ(sum.momentum, 6738415616);
    EXPECT_EQ(sum.second_moments, second_moments);
  }
}

TEST(PlanMapTest, SumsTheElementsOfEachPairOfRanks) {
  const std::vector<ParamSpec> specs = {Spec("h", {6, 4}, BlockRule::Heads(2)),
                                        Spec("r", {6, 4}, BlockRule::Rows())};
  const Plan to = PlanOf(specs, 3);
  ASSERT_OK_AND_ASSIGN(const PlanMap map, MakeMap(PlanOf(specs, 1), to));
  const std::vector<MoveTotals> pairs = TotalsOf(to, map);
  ASSERT_THAT(pairs, SizeIs(3));
  int64_t momentum = 0, second_moments = 0;
  for (int rank = 0; rank < 3; ++rank) {
    EXPECT_EQ(pairs[rank].from_rank, 0);
    EXPECT_EQ(pairs[rank].to_rank, rank);
    momentum += pairs[rank].momentum;
    second_moments += pairs[rank].second_moments;
  }
  EXPECT_EQ(momentum, 48);
  EXPECT_EQ(second_moments, 3 + 6);
}

}  // namespace
}  // namespace zeromini
