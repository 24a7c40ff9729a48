#include "tools/bench_step_run.h"

#include <algorithm>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"
#include "tools/agree_on.h"
#include "tools/bench_costs.h"
#include "tools/bench_report.h"
#include "tools/bench_step_report.h"
#include "tools/files/json_file.h"
#include "tools/machine_memory.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

// Steps in a row of one contender, after one that is not timed: in each, the
// weights of the step before travel under forward, as in training.
constexpr int kInARow = 3;

// Collective. The largest of the ranks' numbers.
absl::StatusOr<int64_t> Largest(int64_t mine, Communicator& group) {
  Communicator& control = group.control();
  ZEROMINI_RETURN_IF_ERROR(
      control.AllReduce(&mine, 1, DType::kInt64, ReduceOp::kMax, Exchange()));
  ZEROMINI_RETURN_IF_ERROR(WaitForExchanges(control));
  return mine;
}

class StepBench {
 public:
  StepBench(const StepBenchOptions& options, const Workload& workload,
            const std::vector<StepperRecipe>& recipes, BenchRank& rank)
      : options_(options),
        rank_(rank),
        group_(rank.group),
        workload_(workload),
        recipes_(recipes),
        results_(recipes.size()),
        steppers_(recipes.size()) {}

  absl::Status Run() {
    ZEROMINI_RETURN_IF_ERROR(AgreeOn(
        group_.rank() == 0 ? CheckWritable(options_.json) : absl::OkStatus(),
        group_));
    ZEROMINI_RETURN_IF_ERROR(FindBudget());
    ZEROMINI_ASSIGN_OR_RETURN(costs_, MeasureCosts(CostPayload(), group_));
    ZEROMINI_RETURN_IF_ERROR(WarmUp());
    for (int r = 0; r < options_.repetitions; ++r) {
      ZEROMINI_RETURN_IF_ERROR(Round(r));
    }
    for (auto& stepper : steppers_) ZEROMINI_RETURN_IF_ERROR(Drop(&stepper));
    for (StepResult& result : results_) {
      ZEROMINI_RETURN_IF_ERROR(Slowest(&result.samples));
    }
    return group_.rank() == 0 ? Report() : absl::OkStatus();
  }

 private:
  int64_t RanksOfAHost() const {
    return (group_.size() + rank_.hosts() - 1) / rank_.hosts();
  }

  int64_t CostPayload() const {
    return std::clamp<int64_t>(workload_.elements * int64_t{sizeof(float)},
                               1 << 20, 64 << 20);
  }

  // Also refuses what no contender could hold, before it takes memory.
  absl::Status FindBudget() {
    const int64_t mine =
        options_.memory_budget > 0 ? options_.memory_budget : AvailableMemory();
    ZEROMINI_ASSIGN_OR_RETURN(const int64_t negative, Largest(-mine, group_));
    budget_ = -negative;
    for (const StepperRecipe& recipe : recipes_) {
      ZEROMINI_ASSIGN_OR_RETURN(
          const int64_t held,
          recipe.HeldBytes(options_.settings, workload_, group_.size()));
      const int64_t bytes = held * RanksOfAHost();
      together_ += bytes;
      if (Fits(bytes)) continue;
      return absl::ResourceExhaustedError(absl::StrCat(
          recipe.optimizer.name(), " (", recipe.Implementation(group_),
          ") takes ", InGibibytes(bytes), " on a machine of ", RanksOfAHost(),
          " ranks, which has ", InGibibytes(budget_),
          ": take a smaller --scale or fewer --params"));
    }
    one_at_a_time_ = !Fits(together_);
    return absl::OkStatus();
  }

  // With a tenth for what nobody counts.
  bool Fits(int64_t bytes) const {
    return budget_ == 0 || bytes <= budget_ / 10 * 9;
  }

  // What touches memory for the first time does not count. What is made anew
  // for each run has a step of its own for that.
  absl::Status WarmUp() {
    std::vector<StepResult> unused = results_;
    for (size_t i = 0; i < recipes_.size(); ++i) {
      ZEROMINI_RETURN_IF_ERROR(Turn(i, &unused[i]));
    }
    return absl::OkStatus();
  }

  // Some steps of each; each round begins with another.
  absl::Status Round(int round) {
    for (size_t i = 0; i < recipes_.size(); ++i) {
      const size_t turn = (i + round) % recipes_.size();
      ZEROMINI_RETURN_IF_ERROR(Turn(turn, &results_[turn]));
    }
    return absl::OkStatus();
  }

  absl::Status Turn(size_t index, StepResult* result) {
    std::unique_ptr<Stepper>& stepper = steppers_[index];
    if (stepper == nullptr) {
      ZEROMINI_ASSIGN_OR_RETURN(
          stepper, recipes_[index].Make(options_.settings, workload_, rank_));
    }
    ZEROMINI_RETURN_IF_ERROR(StepsInARow(*stepper, &result->samples));
    result->optimizer = recipes_[index].optimizer.name();
    result->implementation = recipes_[index].Implementation(group_);
    result->layout = stepper->Layout();
    result->buffer_bytes = stepper->BufferBytes();
    result->counted = stepper->Counts().collectives >= 0;
    return one_at_a_time_ ? Drop(&stepper) : absl::OkStatus();
  }

  static absl::Status Drop(std::unique_ptr<Stepper>* stepper) {
    if (*stepper == nullptr) return absl::OkStatus();
    ZEROMINI_RETURN_IF_ERROR((*stepper)->Close());
    stepper->reset();
    return absl::OkStatus();
  }

  absl::Status StepsInARow(Stepper& stepper, StepSamples* samples) {
    stepper.Prepare();
    ZEROMINI_RETURN_IF_ERROR(group_.Barrier());
    const StepperCounts before = stepper.Counts();
    ZEROMINI_RETURN_IF_ERROR(stepper.Step().status());
    StepSeconds sum;
    for (int i = 0; i < kInARow; ++i) {
      ZEROMINI_ASSIGN_OR_RETURN(const StepSeconds seconds, stepper.Step());
      sum.total += seconds.total;
      sum.exposed += seconds.exposed;
      sum.update += seconds.update;
    }
    ZEROMINI_RETURN_IF_ERROR(stepper.Finish());
    const StepperCounts after = stepper.Counts();
    samples->total.push_back(sum.total / kInARow);
    samples->exposed.push_back(sum.exposed / kInARow);
    samples->update.push_back(sum.update / kInARow);
    samples->steps += 1 + kInARow;
    samples->collectives += after.collectives - before.collectives;
    samples->sent_between_hosts +=
        after.sent_between_hosts - before.sent_between_hosts;
    return absl::OkStatus();
  }

  absl::Status Slowest(StepSamples* s) {
    for (std::vector<double>* seconds : {&s->total, &s->exposed, &s->update}) {
      ZEROMINI_ASSIGN_OR_RETURN(*seconds, SlowestRank(*seconds, group_));
    }
    if (rank_.mpi == nullptr) return absl::OkStatus();
    ZEROMINI_ASSIGN_OR_RETURN(s->sent_between_hosts,
                              rank_.mpi->LargestHostSum(s->sent_between_hosts));
    return absl::OkStatus();
  }

  void Compare() {
    for (size_t i = 0; i < recipes_.size(); ++i) {
      if (recipes_[i].kind == StepperKind::kReplicated) continue;
      StepResult& result = results_[i];
      if (recipes_.back().kind == StepperKind::kReplicated) {
        result.to_baseline =
            RatioOfPairs(result.samples.total, results_.back().samples.total);
      }
      if (recipes_[i].kind == StepperKind::kSharded &&
          i + 1 < recipes_.size() &&
          recipes_[i + 1].kind == StepperKind::kShardedByPadding) {
        result.to_padding_layout =
            RatioOfPairs(result.samples.total, results_[i + 1].samples.total);
      }
    }
  }

  absl::Status Report() {
    Compare();
    StepConditions conditions;
    conditions.workload = &workload_;
    conditions.clip = options_.settings.clip;
    conditions.stage = options_.settings.stage;
    conditions.ranks = group_.size();
    conditions.hosts = rank_.hosts();
    conditions.comm = group_.backend();
    conditions.repetitions = options_.repetitions;
    conditions.steps_in_a_row = kInARow;
    conditions.one_at_a_time = one_at_a_time_;
    conditions.together_bytes = together_;
    conditions.machine_bytes = budget_;
    conditions.costs = costs_;
    nlohmann::json rows = nlohmann::json::array();
    for (const StepResult& result : results_) {
      rows.push_back(StepRow(result, conditions));
    }
    std::printf("%s\n%s\n%s\n", StepHeading(conditions).c_str(),
                StepTables(rows).c_str(), costs_.ToText().c_str());
    return WriteJson(options_.json, rows);
  }

  const StepBenchOptions& options_;
  BenchRank& rank_;
  Communicator& group_;
  const Workload& workload_;
  const std::vector<StepperRecipe>& recipes_;
  std::vector<StepResult> results_;
  std::vector<std::unique_ptr<Stepper>> steppers_;  // Null: not there now.
  ExchangeCosts costs_;
  int64_t budget_ = 0;    // Bytes of a machine; 0: unknown.
  int64_t together_ = 0;  // What all take on a machine.
  bool one_at_a_time_ = false;
};

}  // namespace

absl::Status RunStepBench(const StepBenchOptions& options,
                          const Workload& workload,
                          const std::vector<StepperRecipe>& recipes,
                          BenchRank& rank) {
  return StepBench(options, workload, recipes, rank).Run();
}

}  // namespace zeromini::tools
