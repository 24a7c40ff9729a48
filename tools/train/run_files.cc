#include "tools/train/run_files.h"

#include <cerrno>
#include <cmath>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tools/files/json_file.h"
#include "tools/files/text_file.h"
#include "zeromini/internal/file_descriptor.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/types.h"

namespace zeromini::tools {
namespace {

using Json = nlohmann::json;

// JSON has no NaN; nlohmann writes null for it, which readers accept.
Json Number(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}

}  // namespace

Json ToJson(const Traffic& traffic) {
  Json json;
  int64_t padding = 0;
  int64_t inside_host = 0;
  int64_t between_hosts = 0;
  for (int p = 0; p < kPurposes; ++p) {
    json[PurposeName(static_cast<Purpose>(p))] =
        traffic[p].bytes - traffic[p].padding_bytes;
    padding += traffic[p].padding_bytes;
    inside_host += traffic[p].inside_host_bytes;
    between_hosts += traffic[p].between_hosts_bytes;
  }
  json["padding"] = padding;
  // All of it once more, as the backend counted it.
  json["inside_host"] = inside_host;
  json["between_hosts"] = between_hosts;
  return json;
}

Json ToJson(const StepMetrics& metrics) {
  const StepReport& report = metrics.report;
  return {{"step", metrics.step},
          {"loss", Number(metrics.loss)},
          {"learning_rate", metrics.learning_rate},
          {"loss_scale", metrics.loss_scale},
          {"grad_norm", Number(report.grad_norm)},
          {"clip_scale", report.clip_scale},
          {"skipped", report.skipped},
          {"tokens_per_second", metrics.tokens_per_second},
          {"bytes", ToJson(report.traffic)},
          {"seconds",
           {{"forward", metrics.forward_seconds},
            {"backward", metrics.backward_seconds},
            {"step", metrics.step_seconds},
            {"exposed_gradients", report.seconds_exposed_gradients},
            {"scalars", report.seconds_scalars},
            {"update", report.seconds_update},
            {"exposed_weights", report.seconds_exposed_weights}}}};
}

Json ToJson(const MemoryReport& memory) {
  return {{"weights", memory.weights},
          {"gathered", memory.gathered},
          {"gradients", memory.gradients},
          {"momentum", memory.momentum},
          {"second_moment", memory.second_moment},
          {"master", memory.master},
          {"statistics", memory.statistics},
          {"buckets", memory.buckets},
          {"peak", memory.peak},
          {"state", memory.state()}};
}

Json ToJson(const ModelConfig& model) {
  return {{"architecture", ArchitectureName(model.architecture)},
          {"hidden", model.hidden},
          {"layers", model.layers},
          {"heads", model.heads},
          {"kv_heads", model.kv_heads},
          {"head_dim", model.head_dim},
          {"ffn", model.ffn},
          {"vocab", model.vocab},
          {"context", model.context},
          {"rope_theta", model.rope_theta},
          {"norm_epsilon", model.norm_epsilon},
          {"init_std", model.init_std},
          {"tied_head", model.tied_head}};
}

Json ToJson(const PretrainOptions& options) {
  const Schedule& schedule = options.schedule;
  return {{"model", ToJson(options.model)},
          {"data", options.data},
          {"batch", options.batch},
          {"length", options.length},
          {"micro_steps", options.micro_steps},
          {"steps", schedule.steps},
          {"learning_rate", schedule.peak},
          {"min_learning_rate", schedule.floor},
          {"schedule", ScheduleName(schedule.shape)},
          {"warmup", schedule.warmup},
          {"decay_steps", schedule.decay},
          {"optimizer", options.optimizer},
          {"value_blocks", options.value_blocks},
          {"second_moment", options.second_moment},
          {"memory", options.memory},
          {"gradient_wire", options.gradient_wire},
          {"weight_wire", options.weight_wire},
          {"dtype", options.dtype},
          {"master", options.master},
          {"momentum", options.momentum},
          {"stage", options.stage},
          {"shard_group", options.shard_group},
          {"gather_budget", options.gather_budget},
          {"prefetch", options.prefetch},
          {"clip", options.clip},
          {"clip_value", options.clip_value},
          {"skip_above", options.skip_above},
          {"weight_decay", options.weight_decay},
          {"beta1", options.beta1},
          {"beta2", options.beta2},
          {"epsilon", options.epsilon},
          {"eval_every", options.eval_every},
          {"eval_batches", options.eval_batches},
          {"seed", options.seed},
          {"threads", options.threads}};
}

Json ToJson(const BlasInfo& blas) {
  return {{"name", blas.name},
          {"library", blas.library},
          {"detail", blas.detail},
          {"slow", blas.slow}};
}

absl::StatusOr<RunFiles> RunFiles::Create(const std::string& folder,
                                          bool overwrite) {
  OutputFolderRules rules;
  rules.ours = [](const std::string& name) {
    return name == kMetricsName || name == kSummaryName;
  };
  rules.overwrite = overwrite;
  ZEROMINI_ASSIGN_OR_RETURN(OutputFolder claimed,
                            OutputFolder::Claim(folder, rules));
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(SummaryPath(folder)));
  const std::string path = MetricsPath(folder);
  errno = 0;
  std::ofstream metrics(path, std::ios::trunc);
  if (!metrics) {
    const int error = errno;
    return CannotBeWritten(
        absl::StrCat(path, ": cannot be created: ", std::strerror(error)),
        error);
  }
  return RunFiles(std::move(claimed), std::move(metrics));
}

absl::Status RunFiles::AddLine(const Json& line) {
  metrics_ << JsonText(line) << '\n' << std::flush;
  if (metrics_) return absl::OkStatus();
  return absl::ResourceExhaustedError(absl::StrCat(
      MetricsPath(folder_.path()), ": a line could not be written"));
}

absl::Status RunFiles::WriteRun(const Json& run) {
  ZEROMINI_RETURN_IF_ERROR(folder_.CheckInPlace());
  return WriteJson(SummaryPath(folder_.path()), run);
}

}  // namespace zeromini::tools
