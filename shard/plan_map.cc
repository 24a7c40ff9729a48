#include "zeromini/plan_map.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "shard/plan_match.h"
#include "shard/stretch.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini {
namespace {

// Rows that one rank of a plan owns.
struct Piece {
  int64_t first_row = 0;
  int64_t rows = 0;
  int rank = 0;

  int64_t end() const { return first_row + rows; }
};

// [param]: its pieces, by row.
std::vector<std::vector<Piece>> PiecesOf(const Plan& plan) {
  std::vector<std::vector<Piece>> pieces(plan.params.size());
  for (const BucketPlan& bucket : plan.buckets) {
    for (size_t rank = 0; rank < bucket.runs.size(); ++rank) {
      for (const Run& run : bucket.runs[rank]) {
        pieces[run.param].push_back(
            {run.first_row, run.rows, static_cast<int>(rank)});
      }
    }
  }
  for (std::vector<Piece>& of_param : pieces) {
    std::sort(of_param.begin(), of_param.end(),
              [](const Piece& a, const Piece& b) {
                return a.first_row < b.first_row;
              });
  }
  return pieces;
}

// The ranks that hold one set of tensors: the world, or an expert slice. A
// position is a rank's place among them.
struct Family {
  int slice = 0;
  int slices = 1;
  int from_ranks = 1, from_replicas = 1;
  int to_ranks = 1, to_replicas = 1;

  int RankAt(int position) const { return position * slices + slice; }

  // Itself where it can; else the replicas take turns.
  int SourceFor(int from_rank, int to_position) const {
    const int members = from_ranks * from_replicas;
    if (to_position < members && to_position % from_ranks == from_rank) {
      return to_position;
    }
    return to_position % from_replicas * from_ranks + from_rank;
  }
};

absl::StatusOr<std::vector<Family>> FamiliesOf(const Plan& from, const Plan& to,
                                               bool expert, int slices) {
  if (!expert) slices = 1;
  std::vector<Family> families;
  for (const Plan* plan : {&from, &to}) {
    if (slices >= 1 && plan->options.replicas % slices == 0) continue;
    return absl::InvalidArgumentError(absl::StrCat(
        "expert_slices ", slices, " do not divide the ", plan->options.replicas,
        " replicas of ", plan->options.ranks,
        " ranks into as many for each slice"));
  }
  for (int slice = 0; slice < slices; ++slice) {
    families.push_back({slice, slices, from.options.ranks,
                        from.options.replicas / slices, to.options.ranks,
                        to.options.replicas / slices});
  }
  return families;
}

// Calls `use` with each stretch of rows that has one owner before and one
// after.
template <typename Use>
void ForEachOverlap(const std::vector<Piece>& from,
                    const std::vector<Piece>& to, const Use& use) {
  size_t source = 0;
  for (const Piece& piece : to) {
    for (int64_t row = piece.first_row; row < piece.end();) {
      while (from[source].end() <= row) ++source;
      const int64_t end = std::min(piece.end(), from[source].end());
      use(from[source].rank, piece.rank, row, end - row);
      row = end;
    }
  }
}

// Of the blocks or matrices of a move only the first and the last can have rows
// in another one to the same rank: one of them brings it.
template <typename RangeOf, typename Set>
void FillRanges(absl::Span<Move> moves, const RangeOf& range_of,
                const Set& set) {
  std::map<std::pair<int, int64_t>, Move*> bringer;
  const auto offer = [&](Move& move, int64_t block) {
    Move*& chosen = bringer[{move.to_rank, block}];
    const bool local = move.from_rank == move.to_rank;
    const bool other_is_local =
        chosen != nullptr && chosen->from_rank == chosen->to_rank;
    if (chosen == nullptr || (local && !other_is_local)) chosen = &move;
  };
  for (Move& move : moves) {
    const IndexRange range = range_of(move);
    if (range.count() == 0) continue;
    offer(move, range.begin);
    offer(move, range.end - 1);
  }
  for (Move& move : moves) {
    IndexRange range = range_of(move);
    const auto brings = [&](int64_t index) {
      return bringer[{move.to_rank, index}] == &move;
    };
    if (range.begin < range.end && !brings(range.end - 1)) --range.end;
    if (range.begin < range.end && !brings(range.begin)) ++range.begin;
    set(move, range);
  }
}

void FillBlocks(const PlannedParam& param, absl::Span<Move> moves) {
  if (param.blocks.empty()) return;
  FillRanges(
      moves,
      [&](const Move& move) {
        return BlocksIn(param.blocks, move.first_row, move.rows);
      },
      [](Move& move, IndexRange range) {
        move.first_block = range.begin;
        move.blocks = range.count();
      });
  FillRanges(
      moves,
      [&](const Move& move) {
        return MatricesIn(param.blocks, move.first_row, move.rows);
      },
      [](Move& move, IndexRange range) {
        move.first_matrix = range.begin;
        move.matrices = range.count();
      });
}

// Appends the moves of one parameter, by family, replica and row.
void AddMoves(const Move& of, const std::vector<Piece>& from,
              const std::vector<Piece>& to, const std::vector<Family>& families,
              std::vector<Move>* moves) {
  for (const Family& family : families) {
    for (int replica = 0; replica < family.to_replicas; ++replica) {
      const auto add = [&](int from_rank, int to_rank, int64_t first_row,
                           int64_t rows) {
        const int position = replica * family.to_ranks + to_rank;
        Move move = of;
        move.from_rank = family.RankAt(family.SourceFor(from_rank, position));
        move.to_rank = family.RankAt(position);
        move.first_row = first_row;
        move.rows = rows;
        moves->push_back(move);
      };
      ForEachOverlap(from, to, add);
    }
  }
}

}  // namespace

absl::StatusOr<PlanMap> MakeMap(const Plan& from, const Plan& to,
                                int expert_slices) {
  if (expert_slices < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("expert_slices must be at least 1, got ", expert_slices));
  }
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<int> matches,
                            MatchParams(from, to));
  const std::vector<std::vector<Piece>> from_pieces = PiecesOf(from);
  const std::vector<std::vector<Piece>> to_pieces = PiecesOf(to);
  PlanMap map;
  for (size_t i = 0; i < to.params.size(); ++i) {
    if (to_pieces[i].empty()) continue;
    ZEROMINI_ASSIGN_OR_RETURN(
        const std::vector<Family> families,
        FamiliesOf(from, to, to.params[i].expert, expert_slices));
    const size_t begin = map.moves.size();
    Move of;
    of.from_param = matches[i];
    of.to_param = static_cast<int>(i);
    AddMoves(of, from_pieces[matches[i]], to_pieces[i], families, &map.moves);
    FillBlocks(to.params[i], absl::MakeSpan(map.moves).subspan(begin));
  }
  std::sort(map.moves.begin(), map.moves.end(),
            [](const Move& a, const Move& b) {
              return std::tie(a.from_rank, a.to_rank, a.to_param, a.first_row) <
                     std::tie(b.from_rank, b.to_rank, b.to_param, b.first_row);
            });
  return map;
}

MoveTotals TotalsOf(const Plan& to, const Move& move) {
  const PlannedParam& param = to.params[move.to_param];
  MoveTotals totals;
  totals.from_rank = move.from_rank;
  totals.to_rank = move.to_rank;
  totals.momentum = StateElements(param, move.first_row, move.rows);
  if (!param.keeps_second_moment()) return totals;
  totals.second_moments =
      param.element_state ? totals.momentum
                          : move.blocks + move.matrices * param.row_elements;
  return totals;
}

std::vector<MoveTotals> TotalsOf(const Plan& to, const PlanMap& map) {
  std::vector<MoveTotals> pairs;
  for (const Move& move : map.moves) {
    const MoveTotals totals = TotalsOf(to, move);
    if (pairs.empty() || pairs.back().from_rank != move.from_rank ||
        pairs.back().to_rank != move.to_rank) {
      pairs.push_back(totals);
      continue;
    }
    pairs.back().momentum += totals.momentum;
    pairs.back().second_moments += totals.second_moments;
  }
  return pairs;
}

}  // namespace zeromini
