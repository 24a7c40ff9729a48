// Plans of c.h, and the maps between them.

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_convert.h"
#include "runtime/c/c_handles.h"
#include "runtime/c/c_message.h"
#include "runtime/c/c_sized.h"
#include "zeromini/c.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"
#include "zeromini/plan_bytes.h"
#include "zeromini/plan_map.h"

namespace {

using zeromini::Move;
using zeromini::OptimizerOptions;
using zeromini::Plan;
using zeromini::PlanMap;
using zeromini::PlanOptions;
using zeromini::c_api::CheckIn;
using zeromini::c_api::CheckNotNull;
using zeromini::c_api::CheckPlanning;
using zeromini::c_api::CheckRange;
using zeromini::c_api::Complete;
using zeromini::c_api::CopyPlanning;
using zeromini::c_api::CopyString;
using zeromini::c_api::Fail;
using zeromini::c_api::Fields;
using zeromini::c_api::FromC;
using zeromini::c_api::kUnbounded;
using zeromini::c_api::Sized;
using zeromini::c_api::WithoutThrowing;

absl::Status Check(const zeromini_plan_options& options) {
  Fields fields(Sized<zeromini_plan_options>::kName, "");
  CheckPlanning(options, fields);
  fields.Array("group_algorithms", options.group_algorithms,
               "num_group_algorithms", options.num_group_algorithms);
  if (!fields.status().ok()) return fields.status();
  for (int g = 0; g < options.num_group_algorithms; ++g) {
    fields.Range(absl::StrCat("group_algorithms[", g, "]").c_str(),
                 options.group_algorithms[g], -1, ZEROMINI_SGD);
  }
  return fields.status();
}

absl::StatusOr<PlanOptions> OptionsOf(const zeromini_plan_options* given) {
  ZEROMINI_RETURN_IF_ERROR(CheckIn("options", given));
  const zeromini_plan_options from =
      Complete(*given, zeromini_plan_options_init);
  ZEROMINI_RETURN_IF_ERROR(Check(from));
  PlanOptions options;
  CopyPlanning(from, &options);
  options.ranks = from.ranks;
  options.replicas = from.replicas;
  for (int g = 0; g < from.num_group_algorithms; ++g) {
    options.group_algorithms.emplace_back();
    if (from.group_algorithms[g] < 0) continue;
    options.group_algorithms.back() =
        static_cast<zeromini::Algorithm>(from.group_algorithms[g]);
  }
  return options;
}

absl::StatusOr<Plan> Make(const zeromini_plan_options* given,
                          const zeromini_param* params, int num_params) {
  ZEROMINI_ASSIGN_OR_RETURN(const PlanOptions options, OptionsOf(given));
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<zeromini::ParamSpec> specs,
                            FromC(params, num_params));
  return zeromini::MakePlan(specs, options);
}

zeromini_move InC(const Plan& to, const Move& move) {
  const zeromini::MoveTotals totals = zeromini::TotalsOf(to, move);
  return {move.from_param,       move.to_param,     move.from_rank,
          move.to_rank,          move.first_row,    move.rows,
          move.first_block,      move.blocks,       totals.momentum,
          totals.second_moments, move.first_matrix, move.matrices};
}

absl::Status GiveMoves(const Plan& to, const PlanMap& map,
                       zeromini_move** moves, int64_t* num_moves) {
  // One at least: NULL is for no memory.
  const size_t bytes = (map.moves.size() + 1) * sizeof(zeromini_move);
  auto* list = static_cast<zeromini_move*>(std::malloc(bytes));
  if (list == nullptr) {
    return absl::ResourceExhaustedError(
        absl::StrCat("no memory for ", map.moves.size(), " moves"));
  }
  for (size_t i = 0; i < map.moves.size(); ++i) list[i] = InC(to, map.moves[i]);
  *moves = list;
  *num_moves = static_cast<int64_t>(map.moves.size());
  return absl::OkStatus();
}

absl::StatusOr<Plan> MakeFor(const OptimizerOptions& options,
                             const zeromini_param* params, int num_params,
                             int ranks) {
  ZEROMINI_RETURN_IF_ERROR(
      CheckRange("ranks", ranks, 1, zeromini::kMaxPlanRanks));
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<zeromini::ParamSpec> specs,
                            FromC(params, num_params));
  return zeromini::PlanFor(specs, options, ranks);
}

void Own(Plan plan, zeromini_plan& made) {
  made.own = std::make_unique<const Plan>(std::move(plan));
  made.impl = made.own.get();
}

// What `make` fills, unless it fails.
template <typename Make>
zeromini_plan* Give(Make make, char** error) {
  std::unique_ptr<zeromini_plan> made;
  const absl::Status status = WithoutThrowing([&]() -> absl::Status {
    auto filled = std::make_unique<zeromini_plan>();
    ZEROMINI_RETURN_IF_ERROR(make(*filled));
    made = std::move(filled);
    return absl::OkStatus();
  });
  Fail(status, error);
  return made.release();
}

char* TextOf(const zeromini_plan* plan, std::string (Plan::*text)() const) {
  return plan == nullptr ? nullptr : CopyString((plan->impl->*text)());
}

}  // namespace

zeromini_plan* zeromini_make_plan(const zeromini_plan_options* options,
                                  const zeromini_param* params, int num_params,
                                  char** error) {
  const auto make = [&](zeromini_plan& made) -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(Plan plan, Make(options, params, num_params));
    Own(std::move(plan), made);
    return absl::OkStatus();
  };
  return Give(make, error);
}

zeromini_plan* zeromini_plan_for(const zeromini_options* options,
                                 const zeromini_param* params, int num_params,
                                 int ranks, char** error) {
  const auto make = [&](zeromini_plan& made) -> absl::Status {
    ZEROMINI_ASSIGN_OR_RETURN(OptimizerOptions chosen, FromC(options));
    ZEROMINI_ASSIGN_OR_RETURN(Plan plan,
                              MakeFor(chosen, params, num_params, ranks));
    Own(std::move(plan), made);
    made.options = std::make_unique<const OptimizerOptions>(std::move(chosen));
    return absl::OkStatus();
  };
  return Give(make, error);
}

void zeromini_plan_destroy(zeromini_plan* plan) { delete plan; }

char* zeromini_plan_table(const zeromini_plan* plan) {
  return TextOf(plan, &Plan::ToTable);
}
char* zeromini_plan_json(const zeromini_plan* plan) {
  return TextOf(plan, &Plan::ToJson);
}
uint64_t zeromini_plan_hash(const zeromini_plan* plan) {
  return plan == nullptr ? 0 : plan->impl->hash;
}

zeromini_code zeromini_make_map(const zeromini_plan* from,
                                const zeromini_plan* to, int expert_slices,
                                zeromini_move** moves, int64_t* num_moves,
                                char** error) {
  const auto make = [&]() -> absl::Status {
    ZEROMINI_RETURN_IF_ERROR(CheckNotNull("from", from));
    ZEROMINI_RETURN_IF_ERROR(CheckNotNull("to", to));
    ZEROMINI_RETURN_IF_ERROR(CheckNotNull("moves", moves));
    ZEROMINI_RETURN_IF_ERROR(CheckNotNull("num_moves", num_moves));
    ZEROMINI_RETURN_IF_ERROR(
        CheckRange("expert_slices", expert_slices, 1, kUnbounded));
    ZEROMINI_ASSIGN_OR_RETURN(
        const PlanMap map,
        zeromini::MakeMap(*from->impl, *to->impl, expert_slices));
    return GiveMoves(*to->impl, map, moves, num_moves);
  };
  return Fail(WithoutThrowing(make), error);
}
