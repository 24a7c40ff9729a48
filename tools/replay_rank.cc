#include "tools/replay_rank.h"

#include <algorithm>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "tools/agree_on.h"
#include "tools/files/apart.h"
#include "tools/files/output_folder.h"
#include "tools/files/text_file.h"
#include "tools/grad_split.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/safetensors.h"

namespace zeromini::tools {
namespace {

OptimizerOptions OptimizerOptionsFor(const ReplayInput& input,
                                     const ReplayOptions& options) {
  OptimizerOptions result = options.layout;
  result.algorithm = input.algorithm;
  result.stage = options.stage;
  result.hyper_groups = {input.hyper};
  result.reduction =
      options.split_gradients ? Reduction::kSum : Reduction::kMean;
  result.max_grad_norm = options.clip;
  result.absent_gradients = AbsentGradients::kSkip;
  result.memory = options.stage == 3 ? MemoryForm::kFlat : options.memory;
  result.shard_ranks = options.shard_ranks;
  result.model = input.model;
  result.naming = options.naming;
  result.value_blocks = input.value_blocks;
  result.second_moment = options.second_moment.value_or(input.second_moment);
  return result;
}

// params_KK.safetensors and state_KK.safetensors.
bool IsReplayFile(absl::string_view name) {
  if (!absl::ConsumePrefix(&name, "params_") &&
      !absl::ConsumePrefix(&name, "state_")) {
    return false;
  }
  return absl::ConsumeSuffix(&name, ".safetensors") && name.size() >= 2 &&
         std::all_of(name.begin(), name.end(),
                     [](unsigned char c) { return absl::ascii_isdigit(c); });
}

// The weights, the optimizer and what rank 0 writes of them.
class Walker {
 public:
  Walker(const ReplayInput& input, const ReplayOptions& options,
         Communicator& group, const ReplayParts& parts)
      : input_(input),
        options_(options),
        group_(group),
        parts_(parts),
        specs_(input.params) {}

  absl::StatusOr<ReplaySummary> Run() {
    ZEROMINI_RETURN_IF_ERROR(AgreeOn(ClaimOut(), group_));
    ZEROMINI_RETURN_IF_ERROR(CreateOptimizer());
    ReplaySummary summary;
    for (int step = 1; step <= input_.steps(); ++step) {
      const absl::Status given = GiveGradients(step);
      // Peers are in the reductions that the missing gradients would begin.
      if (!given.ok()) group_.Abort(given);
      ZEROMINI_RETURN_IF_ERROR(given);
      auto report = optimizer_->Step(
          {/*learning_rate=*/input_.learning_rates[step - 1], /*wait=*/true});
      if (!report.ok()) {
        return absl::Status(report.status().code(),
                            absl::StrCat(input_.gradients[step - 1]->path(),
                                         ": ", report.status().message()));
      }
      summary.grad_norms.push_back(report->grad_norm);
      ZEROMINI_RETURN_IF_ERROR(GatherWeights());
      ZEROMINI_RETURN_IF_ERROR(AgreeOn(WriteWeights(step), group_));
      ZEROMINI_RETURN_IF_ERROR(ReleaseWeights());
    }
    ZEROMINI_RETURN_IF_ERROR(WriteState());
    summary.traffic = optimizer_->traffic();
    summary.memory = optimizer_->Memory();
    ZEROMINI_RETURN_IF_ERROR(optimizer_->Close());
    return summary;
  }

 private:
  bool writes() const { return group_.rank() == 0; }
  bool sharded() const { return options_.stage == 3; }
  int params() const { return static_cast<int>(specs_.size()); }

  absl::Status ClaimOut() {
    if (!writes()) return absl::OkStatus();
    std::error_code error;
    if (std::filesystem::equivalent(options_.out, input_.directory, error)) {
      return absl::FailedPreconditionError(
          absl::StrCat(options_.out, ": --out is the recording's own folder"));
    }
    ZEROMINI_RETURN_IF_ERROR(CheckSummary());
    OutputFolderRules rules;
    rules.ours = [this](const std::string& name) {
      return IsReplayFile(name) || IsSummary(name);
    };
    rules.others_allowed = false;
    rules.overwrite = options_.overwrite;
    ZEROMINI_ASSIGN_OR_RETURN(OutputFolder folder,
                              OutputFolder::Claim(options_.out, rules));
    folder_.emplace(std::move(folder));
    return CheckWritable(options_.json);
  }

  absl::Status CheckSummary() const {
    const std::string name =
        std::filesystem::path(options_.json).filename().string();
    return CheckApart(
        FilesIn("the replay", input_.directory),
        {{"--out", IsReplayFile(name) ? options_.out + "/" + name : ""},
         {"--json", options_.json}});
  }

  bool IsSummary(const std::string& name) const {
    return !options_.json.empty() &&
           (std::filesystem::path(options_.out) / name).lexically_normal() ==
               std::filesystem::path(options_.json).lexically_normal();
  }

  absl::Status CreateOptimizer() {
    if (std::all_of(specs_.begin(), specs_.end(),
                    [](const ParamSpec& spec) { return spec.frozen; })) {
      return absl::InvalidArgumentError(absl::StrCat(
          MetaFile(input_.directory),
          ": every parameter is frozen (\"requires_grad\": false), so nothing "
          "would be trained"));
    }
    const bool owns = options_.memory == MemoryForm::kFlat || sharded();
    weights_.resize(params());
    if (!owns) MakeWeights();
    auto optimizer =
        parts_.make(OptimizerOptionsFor(input_, options_), specs_, group_);
    if (!optimizer.ok()) {
      return absl::Status(optimizer.status().code(),
                          absl::StrCat(MetaFile(input_.directory), ": ",
                                       optimizer.status().message()));
    }
    optimizer_ = *std::move(optimizer);
    for (int i = 0; owns && i < params(); ++i) {
      if (sharded()) {
        ZEROMINI_RETURN_IF_ERROR(
            optimizer_->SetParam(i, input_.initial[i].data()));
      }
      if (sharded() && !specs_[i].frozen) continue;
      weights_[i] = static_cast<float*>(optimizer_->ParamData(i));
      std::copy(input_.initial[i].begin(), input_.initial[i].end(),
                weights_[i]);
    }
    return absl::OkStatus();
  }

  void MakeWeights() {
    for (int i = 0; i < params(); ++i) {
      const std::vector<float>& initial = input_.initial[i];
      own_weights_.push_back(parts_.allocate(
          static_cast<int64_t>(initial.size() * sizeof(float))));
      weights_[i] = static_cast<float*>(own_weights_.back().get());
      std::copy(initial.begin(), initial.end(), weights_[i]);
      specs_[i].data = weights_[i];
    }
  }

  // Collective. Stage 3: all the weights at once, for rank 0 to write.
  absl::Status GatherWeights() {
    if (!sharded()) return absl::OkStatus();
    const std::vector<PlannedParam>& planned = optimizer_->plan().params;
    for (int i = 0; i < params(); ++i) {
      if (!planned[i].has_state()) continue;
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Gather(planned[i].layer_set));
      ZEROMINI_RETURN_IF_ERROR(optimizer_->WaitParam(i));
      weights_[i] = static_cast<float*>(optimizer_->ParamData(i));
    }
    return absl::OkStatus();
  }

  absl::Status ReleaseWeights() {
    if (!sharded()) return absl::OkStatus();
    for (const PlannedParam& param : optimizer_->plan().params) {
      if (!param.has_state()) continue;
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Release(param.layer_set));
    }
    return absl::OkStatus();
  }

  absl::Status GiveGradients(int step) {
    // As backward would: the last layer's gradients come first.
    for (int i = params() - 1; i >= 0; --i) {
      if (specs_[i].frozen) continue;
      ZEROMINI_ASSIGN_OR_RETURN(auto gradient, input_.Gradient(i, step));
      if (gradient.empty()) continue;
      if (options_.split_gradients) {
        gradient = HandOf(group_.rank(), gradient, {i, step, group_.size()});
      }
      ZEROMINI_RETURN_IF_ERROR(optimizer_->GradReady(i, gradient.data()));
    }
    return absl::OkStatus();
  }

  absl::Status WriteWeights(int step) {
    if (!writes()) return absl::OkStatus();
    std::vector<TensorToWrite> tensors;
    for (int i = 0; i < params(); ++i) {
      tensors.push_back({specs_[i].name, TensorFormat::kF32,
                         input_.file_shapes[i], weights_[i]});
    }
    return WriteSafetensors(StepFile(options_.out, "params", step), tensors);
  }

  // Collective: every rank must ask for every parameter's state.
  absl::Status WriteState() {
    std::vector<Optimizer::ParamState> states;
    states.reserve(params());
    std::vector<TensorToWrite> tensors;
    for (int i = 0; i < params(); ++i) {
      if (specs_[i].frozen) continue;
      ZEROMINI_ASSIGN_OR_RETURN(auto state, optimizer_->ConsolidatedState(i));
      // The official optimizer makes state at a parameter's first gradient.
      if (state.steps == 0) continue;
      states.push_back(std::move(state));
      AddState(optimizer_->plan().params[i], input_.file_shapes[i],
               states.back(), &tensors);
    }
    const std::string path = StepFile(options_.out, "state", input_.steps());
    return AgreeOn(
        writes() ? WriteSafetensors(path, tensors) : absl::OkStatus(), group_);
  }

  static void AddState(const PlannedParam& param,
                       const std::vector<int64_t>& shape,
                       const Optimizer::ParamState& state,
                       std::vector<TensorToWrite>* tensors) {
    tensors->push_back(
        {"m/" + param.name, TensorFormat::kF32, shape, state.momentum.data()});
    const float* const moments = state.second_moment.data();
    if (param.element_state) {
      tensors->push_back(
          {"v/" + param.name, TensorFormat::kF32, shape, moments});
      return;
    }
    // Averages over the columns of all matrices end the second moments.
    const auto matrices = static_cast<int64_t>(MatricesOf(param).size());
    const int64_t columns = matrices * param.row_elements;
    const int64_t scalars = param.blocks_total - columns;
    const char* const rows = columns > 0 ? "r/" : "vmean/";
    if (scalars > 0) {
      tensors->push_back(
          {rows + param.name, TensorFormat::kF32, {scalars}, moments});
    }
    if (columns == 0) return;
    std::vector<int64_t> columns_shape = {param.row_elements};
    if (matrices > 1) columns_shape.insert(columns_shape.begin(), matrices);
    tensors->push_back({"c/" + param.name, TensorFormat::kF32, columns_shape,
                        moments + scalars});
  }

  const ReplayInput& input_;
  const ReplayOptions& options_;
  Communicator& group_;
  const ReplayParts& parts_;
  std::vector<ParamSpec> specs_;
  std::vector<std::shared_ptr<void>> own_weights_;  // External memory only.
  std::vector<float*> weights_;                     // By parameter.
  std::unique_ptr<Optimizer> optimizer_;
  std::optional<OutputFolder> folder_;  // Rank 0's.
};

}  // namespace

std::shared_ptr<void> ReplayParts::HostTensor(int64_t bytes) {
  constexpr int64_t kSize = sizeof(double);  // Aligned for any dtype.
  return std::make_shared<double[]>(
      static_cast<size_t>((bytes + kSize - 1) / kSize));
}

absl::StatusOr<ReplaySummary> ReplayRank(const ReplayInput& input,
                                         const ReplayOptions& options,
                                         Communicator& group,
                                         const ReplayParts& parts) {
  if (options.second_moment && input.algorithm != Algorithm::kAdamMini) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--second-moment is of adam-mini's parameters, and this recording is ",
        AlgorithmName(input.algorithm), "'s; leave it out"));
  }
  return Walker(input, options, group, parts).Run();
}

}  // namespace zeromini::tools
