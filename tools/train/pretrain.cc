#include "tools/train/pretrain.h"

#include <algorithm>
#include <chrono>
#include <exception>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>
#include <system_error>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "spdlog/spdlog.h"
#include "tools/agree_on.h"
#include "tools/files/json_file.h"
#include "tools/files/output_folder.h"
#include "tools/files/terminal.h"
#include "tools/files/text_file.h"
#include "tools/train/batch_share.h"
#include "tools/train/language_model.h"
#include "tools/train/launch.h"
#include "tools/train/progress.h"
#include "tools/train/prometheus_file.h"
#include "tools/train/run_agreement.h"
#include "tools/train/run_checks.h"
#include "tools/train/run_files.h"
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

class Trainer {
 public:
  Trainer(const PretrainOptions& options, Communicator& group,
          RunWatcher* watcher)
      : options_(options),
        group_(group),
        watcher_(watcher),
        progress_(DetectProgress(StartedByMpiLauncher(ProcessEnvironment()))) {}

  absl::Status Build();
  absl::StatusOr<PretrainResult> Run();

 private:
  bool leads() const { return group_.rank() == 0; }
  // What may fail on this rank alone. Files come last: a run that is refused
  // leaves none, and the earlier run, which Claim() may replace, as it was.
  absl::Status Prepare();
  absl::Status Files();
  absl::Status Claim();
  absl::Status Agree(const absl::Status& mine);
  torch::Tensor Tokens(const std::vector<int64_t>& tokens) const;
  absl::StatusOr<double> MicroStep(int64_t first, StepMetrics& metrics);
  absl::Status TrainStep(int64_t step);
  absl::Status Evaluate(int64_t step);
  absl::StatusOr<int64_t> LargestState(const MemoryReport& memory);
  absl::Status WriteRun();
  absl::Status AddLine(const nlohmann::json& line);
  void ExportFigures(const StepMetrics& metrics);
  void ShowProgress(const StepMetrics& metrics);
  void Announce() const;

  const PretrainOptions& options_;
  Communicator& group_;
  RunWatcher* const watcher_;  // Or null.
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
  ZEROMINI_RETURN_IF_ERROR(CheckRunFiles(options_, group_.rank()));
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
  return absl::OkStatus();
}

absl::Status Trainer::Files() {
  ZEROMINI_ASSIGN_OR_RETURN(
      prometheus_,
      PrometheusFile::Create(PrometheusPath(options_.prometheus, group_.rank()),
                             options_.name, group_.rank()));
  if (!leads()) return absl::OkStatus();
  // The copy may go there; Claim() says why if it cannot be made.
  std::error_code ignored;
  std::filesystem::create_directories(options_.out, ignored);
  return CheckWritable(options_.json);
}

absl::Status Trainer::Claim() {
  if (!leads() || options_.out.empty()) return absl::OkStatus();
  ZEROMINI_ASSIGN_OR_RETURN(RunFiles files,
                            RunFiles::Create(options_.out, options_.overwrite));
  files_.emplace(std::move(files));
  return absl::OkStatus();
}

// Every rank's is the error of one.
absl::Status Trainer::Agree(const absl::Status& mine) {
  if (mine.ok() || leads()) return AgreeOn(mine, group_);
  return AgreeOn(
      absl::Status(mine.code(), OfRank(group_.rank(), mine.message())), group_);
}

absl::Status Trainer::Build() {
  ZEROMINI_RETURN_IF_ERROR(Agree(Prepare()));
  ZEROMINI_RETURN_IF_ERROR(AgreeOnRun(options_, *data_, group_));
  if (leads()) Announce();
  ZEROMINI_ASSIGN_OR_RETURN(optimizer_,
                            options_.optimizer == "torch-adamw"
                                ? MakeTorchAdamW(*model_, options_, group_)
                                : MakeSharded(*model_, options_, group_));
  ZEROMINI_RETURN_IF_ERROR(Agree(Files()));
  if (watcher_ != nullptr) ZEROMINI_RETURN_IF_ERROR(watcher_->Begin(group_));
  return Agree(Claim());
}

void Trainer::Announce() const {
  const BlasInfo blas = FindBlas();
  spdlog::info("{} with {} {} parameters, {} on {} rank{}, stage {}",
               ArchitectureName(options_.model.architecture),
               ParameterCount(options_.model), options_.dtype,
               options_.second_moment == "official" ? options_.optimizer
                                                    : options_.second_moment,
               group_.size(), group_.size() == 1 ? "" : "s", options_.stage);
  spdlog::info("{}: {} training and {} validation bytes",
               ForTerminal(options_.data), data_->training_tokens(),
               data_->validation_tokens());
  for (const std::string& warning : options_.model.warnings) {
    spdlog::warn("{}", ForTerminal(warning));
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

torch::Tensor Trainer::Tokens(const std::vector<int64_t>& tokens) const {
  return torch::tensor(tokens, torch::kInt64).view({-1, options_.length + 1});
}

// Forward and backward over the sequences from `first` on; their loss.
absl::StatusOr<double> Trainer::MicroStep(int64_t first, StepMetrics& metrics) {
  Clock::time_point mark = Clock::now();
  ZEROMINI_ASSIGN_OR_RETURN(
      const std::vector<int64_t> tokens,
      data_->Training({options_.seed, metrics.step, first, share_.micro_batch,
                       options_.length}));
  const torch::Tensor loss = model_->Loss(Tokens(tokens));
  const double value = loss.item<float>();
  metrics.forward_seconds += Seconds(mark);
  mark = Clock::now();
  ZEROMINI_RETURN_IF_ERROR(optimizer_->Backward(loss));
  metrics.backward_seconds += Seconds(mark);
  return value;
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
    ZEROMINI_ASSIGN_OR_RETURN(
        const double loss,
        MicroStep(share_.first + micro * share_.micro_batch, metrics));
    loss_sum += loss;
  }
  const Clock::time_point mark = Clock::now();
  ZEROMINI_ASSIGN_OR_RETURN(metrics.report,
                            optimizer_->Step(metrics.learning_rate));
  metrics.step_seconds = Seconds(mark);

  ZEROMINI_ASSIGN_OR_RETURN(metrics.loss, SumOfLosses(loss_sum, group_));
  metrics.loss /= static_cast<double>(options_.micro_steps * group_.size());
  result_.losses.push_back(metrics.loss);
  const double seconds = Seconds(begin);
  training_seconds_ += seconds;
  metrics.tokens_per_second =
      static_cast<double>(options_.batch * options_.length) / seconds;
  ExportFigures(metrics);
  if (!leads()) return absl::OkStatus();
  ShowProgress(metrics);
  return AddLine(ToJson(metrics));
}

absl::Status Trainer::AddLine(const nlohmann::json& line) {
  return files_ ? files_->AddLine(line) : absl::OkStatus();
}

// Training goes on without: a full disk of a monitor is no reason to stop.
void Trainer::ExportFigures(const StepMetrics& metrics) {
  if (!prometheus_->wanted()) return;
  const absl::Status written = prometheus_->Update(
      {metrics.report, optimizer_->traffic(), optimizer_->Memory()},
      metrics.step == options_.schedule.steps);
  if (!written.ok()) {
    spdlog::warn("step {}: {}", metrics.step, ForTerminal(written.message()));
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
    ZEROMINI_ASSIGN_OR_RETURN(
        const std::vector<int64_t> tokens,
        data_->Validation(at, count, total, options_.length));
    sum +=
        model_->Loss(Tokens(tokens)).item<float>() * static_cast<double>(count);
  }
  ZEROMINI_RETURN_IF_ERROR(optimizer_->EndEvaluation());
  ZEROMINI_ASSIGN_OR_RETURN(
      result_.validation_loss,
      SumOfLosses(sum / static_cast<double>(total), group_));
  if (!leads()) return absl::OkStatus();
  progress_.Say(absl::StrFormat("step %d/%d  validation loss %.4f", step,
                                options_.schedule.steps,
                                result_.validation_loss));
  return AddLine(
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
  if (files_) ZEROMINI_RETURN_IF_ERROR(files_->WriteRun(run));
  return WriteJson(options_.json, run);
}

absl::StatusOr<PretrainResult> Trainer::Run() {
  begin_ = Clock::now();
  const int64_t steps = options_.schedule.steps;
  ZEROMINI_RETURN_IF_ERROR(Evaluate(0));
  for (int64_t step = 1; step <= steps; ++step) {
    absl::Status trained = TrainStep(step);
    if (trained.ok() && watcher_ != nullptr) {
      trained = watcher_->AfterStep(step, *optimizer_);
    }
    if (!trained.ok()) {
      progress_.Finish();
      return OfStep(step, trained);
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

absl::Status AbortWith(absl::Status why, Communicator& group) {
  group.Abort(why);
  return why;
}

absl::Status TorchError(const char* what) {
  return absl::InternalError(absl::StrCat("torch: ", what));
}

}  // namespace

absl::StatusOr<PretrainResult> Pretrain(const PretrainOptions& options,
                                        Communicator& group,
                                        RunWatcher* watcher) {
  // Torch reports failures by throwing; this is where they become a status.
  try {
    Trainer trainer(options, group, watcher);
    ZEROMINI_RETURN_IF_ERROR(trainer.Build());
    auto result = trainer.Run();
    if (!result.ok()) result = NameBudget(result.status());
    // Found here alone, maybe: peers would wait for this rank, or wonder at
    // what it does next.
    if (!result.ok()) group.Abort(result.status());
    return result;
  } catch (const c10::Error& error) {  // what() would be a backtrace.
    return AbortWith(TorchError(error.what_without_backtrace()), group);
  } catch (const std::bad_alloc&) {
    return AbortWith(absl::ResourceExhaustedError(
                         OfRank(group.rank(), "there is not enough memory")),
                     group);
  } catch (const std::exception& error) {
    return AbortWith(TorchError(error.what()), group);
  }
}

}  // namespace zeromini::tools
