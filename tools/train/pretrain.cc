#include "tools/train/pretrain.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <exception>
#include <limits>
#include <memory>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "spdlog/spdlog.h"
#include "tools/files/json_file.h"
#include "tools/train/batch_share.h"
#include "tools/train/language_model.h"
#include "tools/train/launch.h"
#include "tools/train/progress.h"
#include "tools/train/prometheus_file.h"
#include "tools/train/text_data.h"
#include "tools/train/train_optimizer.h"
#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

using Clock = std::chrono::steady_clock;

double Seconds(Clock::time_point since) {
  return std::chrono::duration<double>(Clock::now() - since).count();
}

// Losses cross ranks as whole numbers, so their sum has no order. A loss is far
// below 2^20; a step's sum stays below 2^63.
constexpr double kLossUnit = 1 << 30;

constexpr int64_t kNotFinite = int64_t{1} << 51;

int64_t LossToInteger(double loss) {
  if (!std::isfinite(loss)) return kNotFinite;
  return std::llround(loss * kLossUnit);
}

double LossFromInteger(int64_t loss) {
  if (loss >= kNotFinite) return std::numeric_limits<double>::quiet_NaN();
  return static_cast<double>(loss) / kLossUnit;
}

class Trainer {
 public:
  Trainer(const PretrainOptions& options, Communicator& group)
      : options_(options),
        group_(group),
        progress_(DetectProgress(StartedByMpiLauncher(ProcessEnvironment()))) {}

  absl::Status Build();
  absl::StatusOr<PretrainResult> Run();

 private:
  bool leads() const { return group_.rank() == 0; }
  absl::Status Prepare();  // What may fail on this rank alone.
  torch::Tensor Tokens(std::vector<int64_t> tokens) const;
  absl::Status TrainStep(int64_t step);
  absl::Status Evaluate(int64_t step);
  absl::StatusOr<int64_t> LargestState(const MemoryReport& memory);
  absl::Status WriteRun();
  void ExportFigures(const StepMetrics& metrics);
  void ShowProgress(const StepMetrics& metrics);
  void Announce() const;

  const PretrainOptions& options_;
  Communicator& group_;
  std::optional<TextData> data_;
  BatchShare share_;
  std::shared_ptr<LanguageModel> model_;
  std::unique_ptr<TrainOptimizer> optimizer_;
  std::optional<RunFiles> files_;
  std::optional<PrometheusFile> prometheus_;
  Progress progress_;
  PretrainResult result_;
  Clock::time_point begin_;
  double training_seconds_ = 0;
};

absl::Status Trainer::Prepare() {
  ZEROMINI_ASSIGN_OR_RETURN(
      share_, ShareOfBatch(options_.batch, options_.micro_steps, group_.rank(),
                           group_.size()));
  ZEROMINI_ASSIGN_OR_RETURN(TextData data,
                            TextData::Load(options_.data, options_.length));
  data_.emplace(std::move(data));
  torch::set_num_threads(options_.threads);
  model_ = MakeModel(options_.model);
  model_->Initialize(options_.seed);
  if (options_.dtype == "bf16") model_->to(torch::kBFloat16);
  if (options_.dtype == "fp16") model_->to(torch::kFloat16);
  ZEROMINI_ASSIGN_OR_RETURN(
      prometheus_,
      PrometheusFile::Create(PrometheusPath(options_.prometheus, group_.rank()),
                             options_.name, group_.rank()));
  if (!leads()) return absl::OkStatus();
  ZEROMINI_ASSIGN_OR_RETURN(RunFiles files, RunFiles::Create(options_.out));
  files_.emplace(std::move(files));
  return absl::OkStatus();
}

absl::Status Trainer::Build() {
  const absl::Status prepared = Prepare();
  int64_t failed = prepared.ok() ? 0 : 1;
  ZEROMINI_RETURN_IF_ERROR(SumOverRanks(&failed, 1, group_));
  // What all ranks suffer, rank 0 tells.
  if (failed == group_.size() && !leads()) {
    return absl::CancelledError("rank 0 says why");
  }
  ZEROMINI_RETURN_IF_ERROR(prepared);
  if (failed > 0) {
    return absl::AbortedError(
        absl::StrCat(failed, " of ", group_.size(), " ranks cannot start"));
  }
  if (leads()) Announce();
  ZEROMINI_ASSIGN_OR_RETURN(optimizer_,
                            options_.optimizer == "torch-adamw"
                                ? MakeTorchAdamW(*model_, options_, group_)
                                : MakeSharded(*model_, options_, group_));
  return absl::OkStatus();
}

void Trainer::Announce() const {
  const BlasInfo blas = FindBlas();
  spdlog::info("{} with {} {} parameters, {} on {} rank{}, stage {}",
               ArchitectureName(options_.model.architecture),
               ParameterCount(options_.model), options_.dtype,
               options_.optimizer, group_.size(), group_.size() == 1 ? "" : "s",
               options_.stage);
  spdlog::info("{}: {} training and {} validation bytes", options_.data,
               data_->training_tokens(), data_->validation_tokens());
  for (const std::string& warning : options_.model.warnings) {
    spdlog::warn("{}", warning);
  }
  if (blas.slow) {
    spdlog::warn(
        "LibTorch multiplies with the slow reference BLAS ({}): install "
        "libopenblas0-pthread",
        blas.library);
  } else {
    spdlog::info("BLAS: {} ({})", blas.name, blas.library);
  }
}

torch::Tensor Trainer::Tokens(std::vector<int64_t> tokens) const {
  return torch::tensor(tokens, torch::kInt64).view({-1, options_.length + 1});
}

absl::Status Trainer::TrainStep(int64_t step) {
  const Clock::time_point begin = Clock::now();
  StepMetrics metrics;
  metrics.step = step;
  metrics.learning_rate = LearningRate(options_.schedule, step);
  metrics.loss_scale = optimizer_->loss_scale();
  double loss_sum = 0;
  ZEROMINI_RETURN_IF_ERROR(optimizer_->BeginForward());
  for (int64_t micro = 0; micro < options_.micro_steps; ++micro) {
    Clock::time_point mark = Clock::now();
    const torch::Tensor loss = model_->Loss(Tokens(data_->Training(
        {options_.seed, step, share_.first + micro * share_.micro_batch,
         share_.micro_batch, options_.length})));
    loss_sum += loss.item<float>();
    metrics.forward_seconds += Seconds(mark);
    mark = Clock::now();
    ZEROMINI_RETURN_IF_ERROR(optimizer_->Backward(loss));
    metrics.backward_seconds += Seconds(mark);
  }
  const Clock::time_point mark = Clock::now();
  ZEROMINI_ASSIGN_OR_RETURN(metrics.report,
                            optimizer_->Step(metrics.learning_rate));
  metrics.step_seconds = Seconds(mark);

  int64_t loss = LossToInteger(loss_sum);
  ZEROMINI_RETURN_IF_ERROR(SumOverRanks(&loss, 1, group_));
  metrics.loss = LossFromInteger(loss) /
                 static_cast<double>(options_.micro_steps * group_.size());
  result_.losses.push_back(metrics.loss);
  const double seconds = Seconds(begin);
  training_seconds_ += seconds;
  metrics.tokens_per_second =
      static_cast<double>(options_.batch * options_.length) / seconds;
  ExportFigures(metrics);
  if (!leads()) return absl::OkStatus();
  ShowProgress(metrics);
  return files_->AddLine(ToJson(metrics));
}

// Training goes on without: a full disk of a monitor is no reason to stop.
void Trainer::ExportFigures(const StepMetrics& metrics) {
  if (!prometheus_->wanted()) return;
  const absl::Status written = prometheus_->Update(
      {metrics.report, optimizer_->traffic(), optimizer_->Memory()},
      metrics.step == options_.schedule.steps);
  if (!written.ok()) {
    spdlog::warn("step {}: {}", metrics.step, std::string(written.message()));
  }
}

void Trainer::ShowProgress(const StepMetrics& metrics) {
  ProgressPoint point;
  point.step = metrics.step;
  point.steps = options_.schedule.steps;
  point.loss = metrics.loss;
  const double done = static_cast<double>(metrics.step);
  point.tokens_per_second =
      done * static_cast<double>(options_.batch * options_.length) /
      training_seconds_;
  point.seconds_left =
      Seconds(begin_) / done * static_cast<double>(point.steps - point.step);
  progress_.Show(point);
}

absl::Status Trainer::Evaluate(int64_t step) {
  torch::NoGradGuard no_grad;
  const int64_t total = options_.batch * options_.eval_batches;
  const int64_t ranks = group_.size();
  const int64_t begin = total * group_.rank() / ranks;
  const int64_t end = total * (group_.rank() + 1) / ranks;
  double sum = 0;
  ZEROMINI_RETURN_IF_ERROR(optimizer_->BeginForward());
  for (int64_t at = begin; at < end; at += options_.batch) {
    const int64_t count = std::min(options_.batch, end - at);
    const torch::Tensor loss = model_->Loss(
        Tokens(data_->Validation(at, count, total, options_.length)));
    sum += loss.item<float>() * static_cast<double>(count);
  }
  ZEROMINI_RETURN_IF_ERROR(optimizer_->EndEvaluation());
  int64_t loss = LossToInteger(sum / static_cast<double>(total));
  ZEROMINI_RETURN_IF_ERROR(SumOverRanks(&loss, 1, group_));
  result_.validation_loss = LossFromInteger(loss);
  if (!leads()) return absl::OkStatus();
  progress_.Say(absl::StrFormat("step %d/%d  validation loss %.4f", step,
                                options_.schedule.steps,
                                result_.validation_loss));
  return files_->AddLine(
      {{"step", step}, {"validation_loss", result_.validation_loss}});
}

absl::StatusOr<int64_t> Trainer::LargestState(const MemoryReport& memory) {
  std::vector<int64_t> states(group_.size(), 0);
  states[group_.rank()] = memory.state();
  ZEROMINI_RETURN_IF_ERROR(SumOverRanks(states.data(), group_.size(), group_));
  return *std::max_element(states.begin(), states.end());
}

absl::Status Trainer::WriteRun() {
  result_.memory = optimizer_->Memory();
  ZEROMINI_ASSIGN_OR_RETURN(const int64_t largest,
                            LargestState(result_.memory));
  if (!leads()) return absl::OkStatus();
  const size_t tail = std::min<size_t>(50, result_.losses.size());
  double last = 0;
  for (size_t i = result_.losses.size() - tail; i < result_.losses.size();
       ++i) {
    last += result_.losses[i] / static_cast<double>(tail);
  }
  const nlohmann::json run = {
      {"name", options_.name},
      {"options", ToJson(options_)},
      {"ranks", group_.size()},
      {"comm", group_.backend()},
      {"overlap", group_.overlaps()},
      {"parameters", ParameterCount(options_.model)},
      {"state_bytes_per_rank", largest},
      {"memory", ToJson(result_.memory)},
      {"training_loss", last},
      {"validation_loss", result_.validation_loss},
      {"training_seconds", training_seconds_},
      {"tokens_per_second",
       static_cast<double>(options_.schedule.steps * options_.batch *
                           options_.length) /
           training_seconds_},
      {"blas", ToJson(FindBlas())},
      {"versions",
       {{"zeromini", ZEROMINI_VERSION},
        {"torch", TORCH_VERSION},
        {"mpi", MpiDescription(nullptr)}}}};
  ZEROMINI_RETURN_IF_ERROR(files_->WriteRun(run));
  return WriteJson(options_.json, run);
}

absl::StatusOr<PretrainResult> Trainer::Run() {
  begin_ = Clock::now();
  const int64_t steps = options_.schedule.steps;
  ZEROMINI_RETURN_IF_ERROR(Evaluate(0));
  for (int64_t step = 1; step <= steps; ++step) {
    const absl::Status trained = TrainStep(step);
    if (!trained.ok()) {
      progress_.Finish();
      return absl::Status(trained.code(),
                          absl::StrCat("step ", step, ": ", trained.message()));
    }
    if (step == steps ||
        (options_.eval_every > 0 && step % options_.eval_every == 0)) {
      ZEROMINI_RETURN_IF_ERROR(Evaluate(step));
    }
  }
  if (leads()) progress_.Finish();
  ZEROMINI_RETURN_IF_ERROR(WriteRun());
  ZEROMINI_RETURN_IF_ERROR(optimizer_->Close());
  return std::move(result_);
}

absl::Status AbortWith(const char* what, Communicator& group) {
  const absl::Status status =
      absl::InternalError(absl::StrCat("torch: ", what));
  group.Abort(status);
  return status;
}

}  // namespace

absl::StatusOr<PretrainResult> Pretrain(const PretrainOptions& options,
                                        Communicator& group) {
  // Torch reports failures by throwing; this is where they become a status.
  try {
    Trainer trainer(options, group);
    ZEROMINI_RETURN_IF_ERROR(trainer.Build());
    return trainer.Run();
  } catch (const c10::Error& error) {  // what() would be a backtrace.
    return AbortWith(error.what_without_backtrace(), group);
  } catch (const std::exception& error) {
    return AbortWith(error.what(), group);
  }
}

}  // namespace zeromini::tools
