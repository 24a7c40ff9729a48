// One rank of a random case, on a group of any size; and the one rank that
// stands for all of them, holds all experts and gives the sums of all
// gradients.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_RUN_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_RUN_H_

#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "support/random_case.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/optimizer.h"

namespace zeromini {

// A parameter, and whose experts it is.
struct Tensor {
  int param = 0;
  int slice = 0;
};

// What one rank of the case holds, or the one rank that stands for all.
struct View {
  OptimizerOptions options;
  std::vector<Tensor> tensors;
  std::vector<ParamSpec> specs;
  std::vector<int> ranks;  // Whose gradients this one adds up and gives.
  bool one_for_all = false;
};

inline View RankView(const RandomCase& c, int rank) {
  View view = {c.options, {}, c.specs, {rank}};
  for (int p = 0; p < int(c.specs.size()); ++p) {
    view.tensors.push_back({p, c.specs[p].expert ? c.SliceOf(rank) : 0});
  }
  return view;
}

inline View OneForAll(const RandomCase& c) {
  View view;
  view.one_for_all = true;
  view.options = c.options;
  view.options.stage = 1;
  view.options.memory = MemoryForm::kExternal;
  view.options.shard_ranks = 0;
  view.options.expert_slices = 1;
  view.options.bucket_bytes = 0;
  view.options.reduction = Reduction::kSum;
  view.options.gradient_wire = DType::kFloat32;  // Its sums have more bits.
  for (int rank = 0; rank < c.ranks; ++rank) view.ranks.push_back(rank);
  for (int p = 0; p < int(c.specs.size()); ++p) {
    const int slices = c.specs[p].expert ? c.slices() : 1;
    for (int slice = 0; slice < slices; ++slice) {
      view.tensors.push_back({p, slice});
      view.specs.push_back(c.specs[p]);
      view.specs.back().expert = false;
      if (c.specs[p].expert) {
        absl::StrAppend(&view.specs.back().name, ".slice", slice);
      }
    }
  }
  return view;
}

// bf16 numbers where a weight may be read before the first step has rounded it.
inline std::vector<char> WeightsOf(const RandomCase& c, const Tensor& tensor,
                                   int version) {
  const ParamSpec& spec = c.specs[tensor.param];
  const bool coarse = c.options.weight_wire != DType::kFloat32;
  std::vector<float> values(Elements(spec));
  for (size_t i = 0; i < values.size(); ++i) {
    const uint64_t bits = Mix(
        ((tensor.param * 31u + tensor.slice) * 37u + version) * 1000003u + i);
    values[i] = coarse ? float(int64_t(bits % 255) - 127) / 128
                       : float(int64_t(bits % 4001) - 2000) / 4096;
  }
  return ToBytes(values, spec.dtype);
}

// Few enough bits for bf16, alone, added up over micro-steps, ties and ranks,
// and times a loss scale.
inline float GradientOf(const Tensor& tensor, size_t i, int step, int micro,
                        int rank) {
  uint64_t key = Mix((tensor.param * 31u + tensor.slice) * 1000003u + i);
  key = Mix(((key * 37u + step) * 11u + micro) * 13u + rank);
  return float(int64_t(key % 21) - 10) / 4096;
}

struct StepOutcome {
  absl::StatusCode code = absl::StatusCode::kOk;
  bool skipped = false, not_finite = false;
  int64_t step = 0, absent = 0;
  double norm = 0, clip_scale = 0;
};

struct Outcome {
  std::vector<StepOutcome> steps;
  // By parameter and slice.
  std::map<std::pair<int, int>, std::vector<float>> weights;
  std::map<std::pair<int, int>, Optimizer::ParamState> states;
};

// One rank of a case, on a group of any size.
class RankRun {
 public:
  RankRun(const RandomCase& c, View view, Communicator& group)
      : c_(c), view_(std::move(view)), group_(group) {
    if (c.caller_streams) stream_ = HostStream::Create("caller");
  }

  absl::Status Run(Outcome* outcome) {
    ZEROMINI_RETURN_IF_ERROR(Start());
    for (size_t s = 0; s < c_.steps.size(); ++s) {
      const RandomStep& step = c_.steps[s];
      ZEROMINI_RETURN_IF_ERROR(Disturb(step, int(s)));
      ZEROMINI_RETURN_IF_ERROR(GiveAll(step, int(s)));
      ZEROMINI_RETURN_IF_ERROR(Step(step, &outcome->steps.emplace_back()));
      gradients_.clear();
    }
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      ZEROMINI_RETURN_IF_ERROR(Read(int(t), outcome));
    }
    return optimizer_->Close();
  }

 private:
  bool flat() const { return view_.options.memory == MemoryForm::kFlat; }
  bool sharded(int t) const {
    return view_.options.stage == 3 && !view_.specs[t].frozen;
  }

  absl::Status Start() {
    std::map<std::string, void*> data;
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      ParamSpec& spec = view_.specs[t];
      memory_.push_back(WeightsOf(c_, view_.tensors[t], 0));
      spec.data =
          spec.tied_to.empty() ? memory_.back().data() : data[spec.tied_to];
      data[spec.name] = spec.data;
    }
    ZEROMINI_ASSIGN_OR_RETURN(
        optimizer_, Optimizer::Create(view_.options, view_.specs, group_));
    for (size_t t = 0; flat() && t < view_.tensors.size(); ++t) {
      if (!view_.specs[t].tied_to.empty()) continue;
      if (view_.options.stage == 3) {
        ZEROMINI_RETURN_IF_ERROR(
            optimizer_->SetParam(int(t), memory_[t].data()));
      } else {
        std::memcpy(optimizer_->ParamData(int(t)), memory_[t].data(),
                    memory_[t].size());
      }
    }
    return absl::OkStatus();
  }

  absl::Status Disturb(const RandomStep& step, int s) {
    for (size_t t = 0; t < view_.tensors.size(); ++t) {
      if (view_.tensors[t].param != step.set_param) continue;
      const auto weights = WeightsOf(c_, view_.tensors[t], s + 1);
      ZEROMINI_RETURN_IF_ERROR(optimizer_->SetParam(int(t), weights.data()));
    }
    // Masters are then taken from the weights, but not at stage 3.
    if (step.broadcast && c_.options.stage != 3) {
      ZEROMINI_RETURN_IF_ERROR(Spoil());
      ZEROMINI_RETURN_IF_ERROR(optimizer_->BroadcastParams());
    }
    return step.set_group < 0
               ? absl::OkStatus()
               : optimizer_->SetGroup(step.set_group, step.group);
  }

  // What BroadcastParams() must mend: the weights of all ranks but the first
  // that holds them.
  absl::Status Spoil() {
    ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitAll());
    for (size_t t = 0; !view_.one_for_all && t < view_.tensors.size(); ++t) {
      const bool first = view_.specs[t].expert ? view_.ranks[0] < c_.slices()
                                               : view_.ranks[0] == 0;
      if (first || !view_.specs[t].tied_to.empty()) continue;
      void* data = flat() ? optimizer_->ParamData(int(t)) : view_.specs[t].data;
      std::memset(data, 0x3e, memory_[t].size());
    }
    return absl::OkStatus();
  }

  bool Gives(int t, const RandomStep& step, int micro) const {
    const Tensor& tensor = view_.tensors[t];
    bool all = true, any = false;
    for (int rank : view_.ranks) {
      if (!Holds(rank, t)) continue;
      const bool given = step.given[tensor.param][micro][rank] != 0;
      all = all && given;
      any = any || given;
    }
    return c_.options.absent_gradients == AbsentGradients::kError ? all : any;
  }

  bool Holds(int rank, int t) const {
    const Tensor& tensor = view_.tensors[t];
    return !c_.specs[tensor.param].expert || c_.SliceOf(rank) == tensor.slice;
  }

  std::vector<float> Gradient(int t, int s, int micro) const {
    const RandomStep& step = c_.steps[s];
    const Tensor& tensor = view_.tensors[t];
    const ParamSpec& spec = c_.specs[tensor.param];
    std::vector<float> sum(Elements(spec));
    const size_t padding =
        spec.padding_rows * (sum.size() / size_t(spec.shape[0]));
    const float scale = float(step.options.loss_scale);
    for (int rank : view_.ranks) {
      if (!Holds(rank, t) || !step.given[tensor.param][micro][rank]) continue;
      for (size_t i = 0; i + padding < sum.size(); ++i) {
        sum[i] += scale * GradientOf(tensor, i, s, micro, rank);
      }
      if (micro == 0 && tensor.param == step.not_finite &&
          rank == step.not_finite_rank) {
        sum[sum.size() / 2] = step.not_finite_value;
      }
    }
    return sum;
  }

  absl::Status GiveAll(const RandomStep& step, int s) {
    for (int micro = 0; micro < view_.options.micro_steps; ++micro) {
      std::vector<int> order;
      for (size_t t = 0; t < view_.tensors.size(); ++t) {
        if (!view_.specs[t].frozen) order.push_back(int(t));
      }
      if (view_.options.stage == 3) {
        ZEROMINI_RETURN_IF_ERROR(GiveByGroup(step, s, micro, order));
        continue;
      }
      Dice dice(step.order_seed + view_.ranks[0] * 7u + micro);
      dice.Shuffle(&order);
      for (int t : order) {
        if (!Gives(t, step, micro)) continue;
        ZEROMINI_RETURN_IF_ERROR(Give(t, s, micro));
      }
    }
    return absl::OkStatus();
  }

  // Stage 3: in an order that all ranks share, each group gathered meanwhile.
  absl::Status GiveByGroup(const RandomStep& step, int s, int micro,
                           std::vector<int> order) {
    if (c_.walks_forward) ZEROMINI_RETURN_IF_ERROR(WalkForward(*optimizer_));
    Dice dice(step.order_seed + micro);
    dice.Shuffle(&order);
    std::vector<int> groups;
    for (int t : order) {
      const int group = GatherGroup(t);
      if (!std::count(groups.begin(), groups.end(), group)) {
        groups.push_back(group);
      }
    }
    for (int group : groups) {
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Gather(
          group, dice.Of({GatherPass::kForward, GatherPass::kBackward,
                          GatherPass::kNone})));
      for (int t : order) {
        if (GatherGroup(t) != group) continue;
        ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(t));
        if (!Gives(t, step, micro)) continue;
        ZEROMINI_RETURN_IF_ERROR(Give(t, s, micro));
      }
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Release(group));
    }
    return absl::OkStatus();
  }

  // A tied tensor is gathered with the one that owns its memory.
  int GatherGroup(int t) const {
    const auto& params = optimizer_->plan().params;
    const int owner = params[t].tied_to >= 0 ? params[t].tied_to : t;
    return params[owner].gather_group;
  }

  absl::Status Give(int t, int s, int micro) {
    const std::vector<float> gradient = Gradient(t, s, micro);
    float* home = c_.uses_homes ? optimizer_->GradData(t) : nullptr;
    if (home != nullptr) {
      const bool first = homes_given_.insert({s, t}).second;
      for (size_t i = 0; i < gradient.size(); ++i) {
        home[i] = first ? gradient[i] : home[i] + gradient[i];
      }
      return optimizer_->GradReady(t, nullptr);
    }
    auto bytes = std::make_shared<std::vector<char>>(
        ToBytes(gradient, view_.specs[t].dtype));
    if (stream_ == nullptr) return optimizer_->GradReady(t, bytes->data());
    // The gradient appears only in the stream's order.
    auto late = std::make_shared<std::vector<char>>(bytes->size(), char(0x7f));
    gradients_.push_back(late);
    stream_->Enqueue([late, bytes] {
      *late = *bytes;
      return absl::OkStatus();
    });
    return optimizer_->GradReady(t, late->data(), stream_->handle());
  }

  absl::Status Step(const RandomStep& step, StepOutcome* outcome) {
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
    outcome->skipped = report->skipped;
    outcome->not_finite = report->not_finite;
    outcome->step = report->step;
    outcome->absent = report->absent_params;
    outcome->norm = report->grad_norm;
    outcome->clip_scale = report->clip_scale;
    if (!step.waits_by_param || view_.options.stage == 3) {
      return options.wait ? absl::OkStatus() : optimizer_->WaitAll();
    }
    for (size_t t = 0; !options.wait && t < view_.tensors.size(); ++t) {
      ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(int(t)));
    }
    return absl::OkStatus();
  }

  absl::Status Read(int t, Outcome* outcome) {
    const ParamSpec& spec = view_.specs[t];
    const std::pair<int, int> key = {view_.tensors[t].param,
                                     view_.tensors[t].slice};
    if (sharded(t)) {
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Gather(GatherGroup(t)));
      ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(t));
    }
    const void* data = flat() ? optimizer_->ParamData(t) : spec.data;
    outcome->weights[key] = FromBytes(data, Elements(spec), spec.dtype);
    if (sharded(t)) {
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Release(GatherGroup(t)));
    }
    if (spec.frozen || !spec.tied_to.empty()) return absl::OkStatus();
    ZEROMINI_ASSIGN_OR_RETURN(outcome->states[key],
                              optimizer_->ConsolidatedState(t));
    return absl::OkStatus();
  }

  const RandomCase& c_;
  View view_;
  Communicator& group_;
  std::vector<std::vector<char>> memory_;
  std::vector<std::shared_ptr<std::vector<char>>> gradients_;
  std::set<std::pair<int, int>> homes_given_;  // Step and tensor.
  std::unique_ptr<HostStream> stream_;
  std::unique_ptr<Optimizer> optimizer_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_RUN_H_
