// StepDecider: what a step decides from sums over all ranks: who gave
// gradients, the norm, the scale of the update, and whether there is an update
// at all. The decision is made and kept in device memory, where kernels read
// it; the host reads it when it must, or late.

#ifndef ZEROMINI_RUNTIME_STEP_STEP_DECIDER_H_
#define ZEROMINI_RUNTIME_STEP_STEP_DECIDER_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/group/rank_groups.h"
#include "runtime/state/shard_state.h"
#include "shard/decision_layout.h"
#include "zeromini/kernels.h"
#include "zeromini/optimizer.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// What this rank brings to a step.
struct StepQuestion {
  StepOptions options;
  std::vector<HyperGroup> groups;
  int64_t number = 0;         // Calls of Step() before this one.
  double mean_scale = 1;      // Of gradients, clipping left out.
  bool refused = false;       // Fp32 kernels cannot take the numbers.
  std::vector<char> present;  // By parameter: its gradient came here.
};

// What came of it.
struct StepAnswer {
  StepDecision decision;
  std::vector<int64_t> words;  // The sums over all ranks.

  int RanksPresent(int param) const;
  int RanksNotFinite(int param) const;
};

// One thread at a time.
class StepDecider {
 public:
  static constexpr int kInFlight = kDecisionsInFlight;

  // All must outlive it.
  static absl::StatusOr<std::unique_ptr<StepDecider>> Create(
      const Plan& plan, const OptimizerOptions& options,
      const RankGroups& groups, Device& device, const ShardState& state);

  // In device memory: this step's words so far, written on the compute stream.
  int64_t* words() const { return static_cast<int64_t*>(words_.get()); }
  // In device memory: what the update of `param` reads, as of the decision that
  // was enqueued last.
  const StepScalars* scalars(int param) const { return scalars_at() + param; }

  // Where the update reads the whole sums of split blocks.
  absl::Status SetSplits(const std::vector<SplitTarget>& splits);

  // Enqueues the exchange of the words and the decision, and clears the words
  // for the next step. Requires fewer than kInFlight decisions unread.
  absl::Status Decide(const StepQuestion& question);

  // Decisions that have not been read, and the oldest: blocks until it is made
  // or `deadline`.
  int unread() const { return unread_; }
  const StepQuestion& oldest() const;
  absl::StatusOr<StepAnswer> Read(absl::Time deadline);

  // When the gradients had landed and when the decision was made, of the one
  // that was read last; nanoseconds of the host's clock.
  int64_t landed_nanos() const;
  int64_t decided_nanos() const;

 private:
  struct Times;  // Written on the compute stream.
  // A step's input and output on the host.
  struct Slot {
    StepQuestion question;
    Buffer in;   // Laid out as in_.
    Buffer out;  // See DecisionLayout::out_bytes().
    Event done;
    std::shared_ptr<Times> times;
  };

  StepDecider(const Plan& plan, const OptimizerOptions& options,
              const RankGroups& groups, Device& device,
              const ShardState& state);

  absl::Status Allocate();
  int64_t params() const { return static_cast<int64_t>(plan_.params.size()); }
  Slot& SlotAt(int64_t index) { return slots_[index % kInFlight]; }
  StepScalars* scalars_at() const {
    return static_cast<StepScalars*>(scalars_.get());
  }
  void Fill(const StepQuestion& question, void* in) const;
  void FillParams(const StepQuestion& question, DecisionParam* params) const;
  // Tops of columns, and then words in their units.
  absl::Status AgreeOnColumns();
  absl::Status AllReduce(void* data, int64_t count, DType dtype, ReduceOp op);
  absl::Status EnqueueDecision(Slot& slot);
  using ColumnKernel = absl::Status (*KernelTable::*)(const ColumnArgs&,
                                                      Stream);
  absl::Status LaunchColumns(ColumnKernel kernel);
  int64_t* column_words() const { return words() + layout_.words; }

  const Plan& plan_;
  const OptimizerOptions& options_;
  const RankGroups& groups_;
  Device& device_;
  int64_t* const steps_;
  const ColumnState& columns_;
  const DecisionLayout layout_;

  Buffer words_;     // And then those of columns.
  Buffer in_;        // By layout_.
  Buffer scalars_;   // StepScalars by parameter.
  Buffer decision_;  // StepDecision.
  Buffer splits_;    // SplitTarget.
  int64_t num_splits_ = 0;

  std::vector<Slot> slots_;
  int64_t decided_ = 0;
  int unread_ = 0;
  std::shared_ptr<Times> last_times_;
};

// Of the update, before clipping: over ranks, micro-steps and the loss scale.
double MeanScale(const OptimizerOptions& options, int ranks, double loss_scale);

// What all ranks must bring alike.
uint64_t AgreementWord(const StepQuestion& question);

// True if weight decay applies to `param` in its group as it is now.
bool Decays(const PlannedParam& param, const std::vector<HyperGroup>& groups);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STEP_STEP_DECIDER_H_
