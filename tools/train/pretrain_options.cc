#include "tools/train/pretrain_options.h"

#include <filesystem>

#include "absl/strings/str_cat.h"
#include "tools/train/text_data.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

absl::Status CheckSizes(const PretrainOptions& options) {
  if (options.model.vocab < kByteTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("tokens are bytes: --vocab must be at least ", kByteTokens,
                     ", not ", options.model.vocab));
  }
  if (options.length < 1 || options.length > options.model.context) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--length ", options.length, " must be from 1 to the model's context, ",
        options.model.context));
  }
  if (options.schedule.steps < 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--steps must be at least 1, not ", options.schedule.steps));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckSchedule(options.schedule));
  if (options.skip_above > 0 && options.optimizer == "torch-adamw") {
    return absl::InvalidArgumentError(
        "--skip-above is not for torch-adamw, which cannot skip a step");
  }
  if (options.eval_batches < 1 || options.threads < 1) {
    return absl::InvalidArgumentError(
        "--eval-batches and --threads must be at least 1");
  }
  return absl::OkStatus();
}

}  // namespace

const std::map<std::string, ScheduleShape>& ScheduleShapes() {
  static const auto* const shapes = new std::map<std::string, ScheduleShape>{
      {"constant", ScheduleShape::kConstant},
      {"linear", ScheduleShape::kLinear},
      {"cosine", ScheduleShape::kCosine},
      {"wsd", ScheduleShape::kWarmupStableDecay}};
  return *shapes;
}

std::string ScheduleName(ScheduleShape shape) {
  for (const auto& [name, each] : ScheduleShapes()) {
    if (each == shape) return name;
  }
  return "";
}

absl::Status Complete(PretrainOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(Complete(options.model));
  if (options.length == 0) options.length = options.model.context;
  if (options.schedule.floor < 0) {
    options.schedule.floor = options.schedule.peak / 10;
  }
  if (options.schedule.warmup < 0) {
    options.schedule.warmup = options.schedule.steps / 20;
  }
  if (options.schedule.decay < 0) {
    options.schedule.decay = options.schedule.steps / 5;
  }
  if (options.name.empty()) {
    std::filesystem::path path(options.out);
    if (!path.has_filename()) path = path.parent_path();
    options.name = path.filename().string();
  }
  return CheckSizes(options);
}

}  // namespace zeromini::tools
