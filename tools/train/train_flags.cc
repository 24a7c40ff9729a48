#include "tools/train/train_flags.h"

#include <cstdio>
#include <cstdlib>
#include <limits>

#include "absl/time/time.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"
#include "tools/files/terminal.h"
#include "tools/flag_checks.h"
#include "tools/timeout_flag.h"
#include "tools/train/launch.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

constexpr char kProgram[] = "zeromini-train";

absl::StatusOr<ModelConfig> ModelFrom(const TrainFlags& flags) {
  ModelConfig model;
  if (flags.options.config.empty()) {
    ZEROMINI_ASSIGN_OR_RETURN(model, NamedConfig(flags.model));
  } else {
    ZEROMINI_ASSIGN_OR_RETURN(model, ReadHfConfig(flags.options.config));
  }
  // A derived head size follows the sizes it is derived from.
  if ((flags.hidden || flags.heads) && !model.own_head_dim) model.head_dim = 0;
  if (flags.heads && !flags.kv_heads) model.kv_heads = *flags.heads;
  const auto set = [](const std::optional<int64_t>& flag, int64_t& value) {
    if (flag) value = *flag;
  };
  set(flags.hidden, model.hidden);
  set(flags.layers, model.layers);
  set(flags.heads, model.heads);
  set(flags.kv_heads, model.kv_heads);
  set(flags.head_dim, model.head_dim);
  set(flags.ffn, model.ffn);
  set(flags.vocab, model.vocab);
  set(flags.context, model.context);
  model.tied_head = model.tied_head || flags.tie_head;
  return model;
}

// What was given wrong is every rank's error, so rank 0 says it for all.
int ReportOfRank(int rank, const absl::Status& status) {
  if (status.ok() || ExitCodeOf(status) == 2) {
    return rank == 0 ? ReportStatus(kProgram, status) : ExitCodeOf(status);
  }
  return ReportStatus(
      kProgram, absl::Status(status.code(), OfRank(rank, status.message())));
}

// Log lines on stderr, so that stdout is progress alone.
void SetUpLog() {
  const char* no_colour = std::getenv("NO_COLOR");
  const bool plain = no_colour != nullptr && *no_colour != '\0';
  spdlog::set_default_logger(spdlog::stderr_color_mt(
      "zeromini-train",
      plain ? spdlog::color_mode::never : spdlog::color_mode::automatic));
  spdlog::set_pattern("%^%l%$: %v");
}

}  // namespace

CLI::Range Count() {
  return CLI::Range(1, std::numeric_limits<int32_t>::max());
}

void AddModelFlags(CLI::App& app, TrainFlags& flags) {
  app.add_option("--model", flags.model, "llama-1m, llama or gpt2")
      ->capture_default_str();
  app.add_option("--config", flags.options.config, "Hugging Face config.json");
  app.add_option("--hidden", flags.hidden, "Width of the residual stream")
      ->check(Count());
  app.add_option("--layers", flags.layers, "Transformer layers")
      ->check(Count());
  app.add_option("--heads", flags.heads, "Attention heads")->check(Count());
  app.add_option("--kv-heads", flags.kv_heads, "Key and value heads")
      ->check(Count());
  app.add_option("--head-dim", flags.head_dim, "Default hidden / heads")
      ->check(Count());
  app.add_option("--ffn", flags.ffn, "Width of the MLP")->check(Count());
  app.add_option("--vocab", flags.vocab, "At least 256: tokens are bytes")
      ->check(Count());
  app.add_option("--context", flags.context, "Longest sequence")
      ->check(Count());
  app.add_flag("--tie-head", flags.tie_head, "Head shares the embedding");
}

void AddDataFlags(CLI::App& app, PretrainOptions& options) {
  app.add_option("--data", options.data,
                 "Text file, plain or .gz of at most 1 GiB of text")
      ->capture_default_str();
  app.add_option("--batch", options.batch, "Sequences a step, over all ranks")
      ->check(Count())
      ->capture_default_str();
  app.add_option("--length", options.length,
                 "Tokens of a sequence (default: the context)")
      ->check(Count());
  app.add_option("--accumulate", options.micro_steps,
                 "Micro-steps of a step, gradients added up")
      ->check(Count())
      ->capture_default_str();
}

void AddScheduleFlags(CLI::App& app, TrainFlags& flags) {
  PretrainOptions& options = flags.options;
  app.add_option("--steps", options.schedule.steps, "Optimizer steps")
      ->check(Count())
      ->capture_default_str();
  app.add_option("--lr", options.schedule.peak, "Peak learning rate")
      ->capture_default_str();
  app.add_option("--min-lr", flags.min_lr, "At the end (default: lr / 10)")
      ->check(NotNegative());
  app.add_option("--warmup", flags.warmup, "Steps (default: steps / 20)")
      ->check(NotNegative());
  app.add_option("--schedule", flags.schedule,
                 "How the rate falls after warm-up; wsd: at the end only")
      ->check(CLI::IsMember(ScheduleShapes()))
      ->capture_default_str();
  app.add_option("--decay-steps", flags.decay,
                 "Steps in which wsd falls (default: steps / 5)")
      ->check(NotNegative());
}

void AddHyperFlags(CLI::App& app, TrainFlags& flags) {
  PretrainOptions& options = flags.options;
  app.add_option("--clip", options.clip, "Global gradient norm; 0: off")
      ->capture_default_str();
  app.add_option("--clip-value", options.clip_value,
                 "Limit of each element of the gradient, before --clip; 0: off")
      ->check(NotNegative())
      ->capture_default_str();
  app.add_option("--skip-above", options.skip_above,
                 "Skips steps with a larger gradient norm; 0: off")
      ->check(NotNegative())
      ->capture_default_str();
  app.add_option("--weight-decay", options.weight_decay, "Decoupled")
      ->capture_default_str();
  app.add_option("--betas", flags.betas, "Two numbers with a comma")
      ->capture_default_str();
  app.add_option("--eps", options.epsilon, "Adam's epsilon")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of weights and of batches")
      ->check(NotNegative())
      ->capture_default_str();
}

void AddLaunchFlags(CLI::App& app, PretrainOptions& options) {
  app.add_option("--comm", options.comm,
                 "mpi or self (default: mpi under mpirun or srun)")
      ->check(CLI::IsMember({"mpi", "self"}));
  AddTimeoutFlag(&app, &options.timeout_seconds);
  app.add_flag("--ignore-world-size", options.ignore_world_size,
               "Trains on the ranks that there are, whatever WORLD_SIZE, "
               "SLURM_NTASKS and the like say");
  app.add_option("--threads", options.threads, "Of LibTorch, per rank")
      ->check(CLI::Range(1, kMostThreads))
      ->capture_default_str();
}

absl::StatusOr<PretrainOptions> OptionsFrom(const TrainFlags& flags) {
  PretrainOptions options = flags.options;
  ZEROMINI_ASSIGN_OR_RETURN(options.model, ModelFrom(flags));
  char rest = 0;
  if (std::sscanf(flags.betas.c_str(), "%lf,%lf%c", &options.beta1,
                  &options.beta2, &rest) != 2) {
    return absl::InvalidArgumentError("--betas wants two numbers, as 0.9,0.95");
  }
  options.schedule.floor = flags.min_lr;
  options.schedule.warmup = flags.warmup;
  options.schedule.decay = flags.decay;
  options.schedule.shape = ScheduleShapes().at(flags.schedule);
  ZEROMINI_RETURN_IF_ERROR(Complete(options));
  return options;
}

int RunInGroup(const absl::StatusOr<PretrainOptions>& options,
               const std::function<absl::Status(Communicator& group)>& train) {
  SetUpLog();
  if (!options.ok()) return ReportStatus(kProgram, options.status());
  auto group = LaunchedGroup::Start(
      {options->comm, absl::Seconds(options->timeout_seconds),
       options->ignore_world_size},
      ProcessEnvironment());
  if (!group.ok()) return ReportStatus(kProgram, group.status());
  const int rank = group->communicator().rank();
  absl::Status status = train(group->communicator());
  status.Update(group->Close());
  return ReportOfRank(rank, status);
}

}  // namespace zeromini::tools
