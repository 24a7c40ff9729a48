// One rank of a random case, on a group of any size.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_RUN_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_RUN_H_

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "support/random_case.h"
#include "support/random_gathers.h"
#include "support/random_giver.h"
#include "support/random_view.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/optimizer.h"

namespace zeromini {

using TensorKey = std::pair<int, int>;  // Parameter and slice.

struct StepOutcome {
  absl::StatusCode code = absl::StatusCode::kOk;
  bool skipped = false, not_finite = false;
  int64_t step = 0, absent = 0;
  double norm = 0, clip_scale = 0;
  // Of what the step watches.
  std::map<TensorKey, std::vector<float>> weights;
  std::map<TensorKey, Optimizer::ParamState> states;  // Before the step.
};

struct Outcome {
  std::vector<StepOutcome> steps;
  std::map<TensorKey, std::vector<float>> weights;
  std::map<TensorKey, Optimizer::ParamState> states;
};

class RankRun {
 public:
  RankRun(const RandomCase& c, View view, Communicator& group)
      : c_(c), view_(std::move(view)), group_(group), giver_(c_, view_) {}

  absl::Status Run(Outcome* outcome) {
    ZEROMINI_RETURN_IF_ERROR(Start());
    outcome->steps.reserve(c_.steps.size());  // A pending one is pointed to.
    for (size_t s = 0; s < c_.steps.size(); ++s) {
      const RandomStep& step = c_.steps[s];
      StepOutcome& seen = outcome->steps.emplace_back();
      ZEROMINI_RETURN_IF_ERROR(ReadState(step, &seen));
      ZEROMINI_RETURN_IF_ERROR(Disturb(step, int(s)));
      ZEROMINI_RETURN_IF_ERROR(GiveAll(step, int(s)));
      ZEROMINI_RETURN_IF_ERROR(Step(step, &seen));
      ZEROMINI_RETURN_IF_ERROR(Watch(int(s), &seen));
      // What is pending may not have read its gradients.
      if (pending_ == nullptr) giver_.Forget();
    }
    ZEROMINI_RETURN_IF_ERROR(WaitLate());
    ZEROMINI_RETURN_IF_ERROR(NotePending());
    ZEROMINI_RETURN_IF_ERROR(EndReads(outcome));
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      ZEROMINI_RETURN_IF_ERROR(Read(int(t), &outcome->weights[KeyOf(t)]));
      if (!HasState(t)) continue;
      ZEROMINI_ASSIGN_OR_RETURN(outcome->states[KeyOf(t)],
                                optimizer_->ConsolidatedState(int(t)));
    }
    return optimizer_->Close();
  }

 private:
  struct LateRead {
    int step = 0;
    TensorKey key;
    std::shared_ptr<std::vector<float>> weights;
    std::shared_ptr<HostEvent> done;
  };

  bool flat() const { return view_.options.memory == MemoryForm::kFlat; }
  bool sharded(int t) const {
    return view_.options.stage == 3 && !view_.specs[t].frozen;
  }
  bool HasState(size_t t) const {
    return !view_.specs[t].frozen && view_.specs[t].tied_to.empty();
  }
  TensorKey KeyOf(size_t t) const {
    return {view_.tensors[t].param, view_.tensors[t].slice};
  }
  // The rank whose weights all others take.
  bool IsSource(size_t t) const {
    const int sources = view_.specs[t].expert ? c_.slices() : 1;
    return view_.one_for_all || view_.ranks[0] < sources;
  }

  absl::Status Start() {
    std::map<std::string, void*> data;
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      ParamSpec& spec = view_.specs[t];
      const std::vector<char> initial = WeightsOf(c_, view_.tensors[t], 0);
      initial_.push_back(initial);
      memory_.push_back(TestTensor(int64_t(initial.size())));
      std::memcpy(memory_.back().get(), initial.data(), initial.size());
      spec.data =
          spec.tied_to.empty() ? memory_.back().get() : data[spec.tied_to];
      data[spec.name] = spec.data;
    }
    ZEROMINI_RETURN_IF_ERROR(Create());
    for (size_t t = 0; flat() && t < view_.tensors.size(); ++t) {
      if (!view_.specs[t].tied_to.empty()) continue;
      if (view_.options.stage == 3) {
        ZEROMINI_RETURN_IF_ERROR(optimizer_->SetParam(
            int(t), IsSource(t) ? initial_[t].data() : nullptr));
      } else {
        std::memcpy(optimizer_->ParamData(int(t)), initial_[t].data(),
                    initial_[t].size());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Create() {
    ZEROMINI_ASSIGN_OR_RETURN(
        optimizer_, MakeOptimizer(view_.options, view_.specs, group_));
    if (view_.options.stage == 3 && c_.just_fits_budget) {
      view_.options.gather_budget_bytes = LeastBudget(optimizer_->plan());
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Close());
      ZEROMINI_ASSIGN_OR_RETURN(
          optimizer_, MakeOptimizer(view_.options, view_.specs, group_));
    }
    giver_.SetOptimizer(optimizer_.get());
    gathers_ = std::make_unique<RandomGathers>(c_, *optimizer_);
    return absl::OkStatus();
  }

  absl::Status ReadState(const RandomStep& step, StepOutcome* seen) {
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      if (view_.tensors[t].param != step.state_of || !HasState(t)) continue;
      ZEROMINI_ASSIGN_OR_RETURN(seen->states[KeyOf(t)],
                                optimizer_->ConsolidatedState(int(t)));
    }
    return absl::OkStatus();
  }

  absl::Status Disturb(const RandomStep& step, int s) {
    if (view_.options.stage == 3 && step.gathers_before) {
      ZEROMINI_RETURN_IF_ERROR(gathers_->GatherAny(step.order_seed));
    }
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      if (view_.tensors[t].param != step.set_param) continue;
      const auto weights = WeightsOf(c_, view_.tensors[t], s + 1);
      ZEROMINI_RETURN_IF_ERROR(
          optimizer_->SetParam(int(t), IsSource(t) ? weights.data() : nullptr));
    }
    // Masters are then taken from the weights, but not at stage 3.
    if (step.broadcast && !(view_.one_for_all && c_.options.stage == 3)) {
      if (step.spoils) ZEROMINI_RETURN_IF_ERROR(Spoil());
      ZEROMINI_RETURN_IF_ERROR(optimizer_->BroadcastParams());
    }
    if (step.set_group < 0) return absl::OkStatus();
    return optimizer_->SetHyperGroup(step.set_group, step.group);
  }

  // What BroadcastParams() must mend: the weights of all ranks but the first
  // that holds them.
  absl::Status Spoil() {
    ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitAll());
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      if (IsSource(t) || !view_.specs[t].tied_to.empty()) continue;
      if (sharded(int(t))) continue;
      void* data = flat() ? optimizer_->ParamData(int(t)) : view_.specs[t].data;
      std::memset(data, 0x3e, initial_[t].size());
    }
    return absl::OkStatus();
  }

  absl::Status GiveAll(const RandomStep& step, int s) {
    const bool each = late_ == Waiting::kLateEach;
    if (!each) ZEROMINI_RETURN_IF_ERROR(WaitLate());
    if (view_.options.stage != 3) {
      ZEROMINI_RETURN_IF_ERROR(giver_.GiveAnyhow(step, s, each));
    } else {
      // Waits for each group that it gathers.
      for (int micro = 0; micro < c_.options.micro_steps; ++micro) {
        ZEROMINI_RETURN_IF_ERROR(gathers_->Give(step, s, micro, giver_));
      }
    }
    late_ = Waiting::kAll;
    return absl::OkStatus();
  }

  // At stage 3 a Gather() waits for what it needs.
  absl::Status WaitLate() {
    if (late_ == Waiting::kAll || view_.options.stage == 3) {
      return absl::OkStatus();
    }
    return optimizer_->WaitAll();
  }

  void Note(const StepReport& report, StepOutcome* outcome) {
    outcome->skipped = report.skipped;
    outcome->not_finite = report.not_finite;
    outcome->step = report.step;
    outcome->absent = report.absent_params;
    outcome->norm = report.grad_norm;
    outcome->clip_scale = report.clip_scale;
  }

  // What the step before has left on the device.
  absl::Status NotePending() {
    if (pending_ == nullptr) return absl::OkStatus();
    ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitAll());
    Note(optimizer_->LastReport(), std::exchange(pending_, nullptr));
    return absl::OkStatus();
  }

  absl::Status Step(const RandomStep& step, StepOutcome* outcome) {
    ZEROMINI_RETURN_IF_ERROR(NotePending());
    StepOptions options = step.options;
    if (view_.one_for_all && c_.options.reduction == Reduction::kMean) {
      options.loss_scale *= c_.ranks * c_.options.micro_steps;
    }
    const absl::StatusOr<StepReport> report = optimizer_->Step(options);
    outcome->code = report.status().code();
    if (!report.ok()) {
      const bool expected = absl::IsInvalidArgument(report.status()) ||
                            absl::IsFailedPrecondition(report.status());
      return expected ? absl::OkStatus() : report.status();
    }
    if (report->pending) {
      pending_ = outcome;
    } else {
      Note(*report, outcome);
    }
    return options.wait ? absl::OkStatus() : Wait(step.waiting);
  }

  absl::Status Wait(Waiting waiting) {
    late_ = Waiting::kAll;
    if (waiting == Waiting::kLate || waiting == Waiting::kLateEach) {
      late_ = waiting;
      return absl::OkStatus();
    }
    // By parameter only what is gathered can be waited for.
    if (waiting == Waiting::kAll || view_.options.stage == 3) {
      return optimizer_->WaitAll();
    }
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(int(t)));
    }
    return absl::OkStatus();
  }

  // At stage 3 on the caller's stream, if there is one: see EndReads().
  absl::Status Watch(int s, StepOutcome* outcome) {
    CallerStream* const stream = giver_.AnyStream(s);
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      if (view_.tensors[t].param != c_.steps[s].watched) continue;
      if (stream == nullptr || !sharded(int(t))) {
        ZEROMINI_RETURN_IF_ERROR(Read(int(t), &outcome->weights[KeyOf(t)]));
        continue;
      }
      auto weights = std::make_shared<std::vector<float>>();
      reads_.push_back({s, KeyOf(t), weights, nullptr});
      const ParamSpec spec = view_.specs[t];
      ZEROMINI_RETURN_IF_ERROR(
          gathers_->ReadOn(*stream, int(t), [weights, spec](const void* data) {
            *weights = FromBytes(data, Elements(spec), spec.dtype);
          }));
      reads_.back().done = stream->queue().Record();
    }
    return absl::OkStatus();
  }

  absl::Status EndReads(Outcome* outcome) {
    for (const LateRead& read : reads_) {
      ZEROMINI_RETURN_IF_ERROR(
          read.done->Wait(absl::Now() + absl::Seconds(30)));
      outcome->steps[read.step].weights[read.key] = *read.weights;
    }
    return absl::OkStatus();
  }

  absl::Status Read(int t, std::vector<float>* weights) {
    const ParamSpec& spec = view_.specs[t];
    if (sharded(t)) ZEROMINI_RETURN_IF_ERROR(gathers_->GatherParam(t));
    ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(t));
    const void* data = flat() ? optimizer_->ParamData(t) : spec.data;
    *weights = FromBytes(data, Elements(spec), spec.dtype);
    return sharded(t) ? gathers_->ReleaseParam(t) : absl::OkStatus();
  }

  const RandomCase& c_;
  View view_;
  Communicator& group_;
  std::vector<std::vector<char>> initial_;
  std::vector<std::shared_ptr<void>> memory_;
  std::vector<LateRead> reads_;
  StepOutcome* pending_ = nullptr;
  Waiting late_ = Waiting::kAll;  // kAll: nothing is left to wait for.
  Giver giver_;                   // Its streams outlive the optimizer.
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<RandomGathers> gathers_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_RUN_H_
