// PlanMap: which state goes from whom to whom when optimizer state moves
// between two plans of the same parameters, as data. Pure arithmetic, equal on
// every rank.

#ifndef ZEROMINI_PLAN_MAP_H_
#define ZEROMINI_PLAN_MAP_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "zeromini/plan.h"

namespace zeromini {

// Consecutive rows of one parameter, with their momentum and, where v is kept
// per element, their second moments; and scalars of consecutive blocks.
struct Move {
  int from_param = 0;  // Index in the plan that state leaves.
  int to_param = 0;    // And in the plan that it goes to.
  // Of the world of each plan, its ranks * replicas. Equal: nothing is sent.
  int from_rank = 0;
  int to_rank = 0;
  int64_t first_row = 0;
  int64_t rows = 0;
  // Blocks with rows in this move. The scalar of a block that is split over
  // several moves to one rank comes with one of them, a local one if there is
  // one, else the first, and is for all parts of the block on that rank.
  int64_t first_block = 0;
  int64_t blocks = 0;
  // Matrices (see MatricesOf()) with rows in this move, likewise: their column
  // averages come with one move to each rank.
  int64_t first_matrix = 0;
  int64_t matrices = 0;
};

struct PlanMap {
  // By from_rank, to_rank, to_param, first_row: a message is a stretch of this
  // list, and both of its sides cut it alike. Every rank of the plan that state
  // goes to gets each row it owns once, and the scalar of each block that it
  // owns at least partly once.
  std::vector<Move> moves;
};

// Parameters are matched by name, tensors that are tied by the names of all
// that share them; ranks, replicas, stage, buckets and order may differ. Source
// of a row is the receiving rank itself if it has it, else one of its replicas,
// spread over the receivers. Frozen and tied parameters have no state to move.
// Experts: as OptimizerOptions::expert_slices, the same before and after; a
// move is of the slice of its ranks.
// A rank is taken for the same process in both plans. Cost: O(runs).
// InvalidArgument, naming up to 16 parameters of all that do not fit, for a
// parameter that is in one plan only, or has in the other another shape,
// orientation, algorithm, blocks or units, ties, or is frozen or an expert's in
// one only; and for expert_slices that do not divide the ranks.
absl::StatusOr<PlanMap> MakeMap(const Plan& from, const Plan& to,
                                int expert_slices = 1);

// What one rank sends another, in elements; itself, too.
struct MoveTotals {
  int from_rank = 0;
  int to_rank = 0;
  int64_t momentum = 0;
  int64_t second_moments = 0;
};
// Of one move. `to`: the plan that state goes to.
MoveTotals TotalsOf(const Plan& to, const Move& move);
// Of each pair of ranks that has a move, in the order of the moves.
std::vector<MoveTotals> TotalsOf(const Plan& to, const PlanMap& map);

}  // namespace zeromini

#endif  // ZEROMINI_PLAN_MAP_H_
