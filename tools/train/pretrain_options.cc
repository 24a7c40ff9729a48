#include "tools/train/pretrain_options.h"

#include <filesystem>
#include <initializer_list>
#include <limits>

#include "absl/strings/str_cat.h"
#include "tools/timeout_flag.h"
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
  const int64_t window = options.model.attention_window;
  if (window > 0 && options.length > window) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--length ", options.length, " is longer than the model's ",
        "sliding_window, ", window, ", and attention here has no window; set ",
        "--length ", window, " or less"));
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
  if (options.threads < 1 || options.threads > kMostThreads) {
    return absl::InvalidArgumentError(
        absl::StrCat("--threads must be from 1 to ", kMostThreads, ", not ",
                     options.threads));
  }
  if (!IsTimeout(options.timeout_seconds)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--timeout must be from 0.1 to 86400 seconds, not ",
                     options.timeout_seconds));
  }
  return absl::OkStatus();
}

// Products of counts are computed in 64 bits, and must fit.
absl::Status CheckProduct(const char* flags, int64_t a, int64_t b) {
  constexpr int64_t kMost = std::numeric_limits<int32_t>::max();
  if (a >= 1 && b >= 1 && a <= kMost / b) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      flags, ", ", a, " times ", b, ", must be from 1 to ", kMost));
}

absl::Status CheckCounts(const PretrainOptions& options) {
  ZEROMINI_RETURN_IF_ERROR(
      CheckProduct("the sequences of an evaluation, --batch "
                   "times --eval-batches",
                   options.batch, options.eval_batches));
  ZEROMINI_RETURN_IF_ERROR(
      CheckProduct("the tokens of a step, --batch times "
                   "--length and one more",
                   options.batch, options.length + 1));
  ZEROMINI_RETURN_IF_ERROR(CheckProduct("--steps", options.schedule.steps, 1));
  return CheckProduct("--accumulate", options.micro_steps, 1);
}

absl::Status CheckFormats(const PretrainOptions& options) {
  if (options.dtype != "fp32" && options.dtype != "bf16" &&
      options.dtype != "fp16") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--dtype must be fp32, bf16 or fp16, not ", options.dtype));
  }
  ZEROMINI_ASSIGN_OR_RETURN(const MasterFormat master,
                            ParseMaster(options.master));
  ZEROMINI_RETURN_IF_ERROR(ParseMomentum(options.momentum).status());
  const bool remainder = master == MasterFormat::kRemainder16 ||
                         master == MasterFormat::kRemainder8;
  if (remainder && options.dtype != "bf16") {
    return absl::InvalidArgumentError(absl::StrCat("--master ", options.master,
                                                   " is for --dtype bf16, not ",
                                                   options.dtype));
  }
  if (master == MasterFormat::kNone && options.dtype == "fp32") {
    return absl::InvalidArgumentError(
        "--master none is for 16-bit weights; with --dtype fp32 the weights "
        "are the master");
  }
  return absl::OkStatus();
}

absl::Status CheckSecondMoment(const PretrainOptions& options) {
  ZEROMINI_ASSIGN_OR_RETURN(const SecondMoment form,
                            ParseSecondMoment(options.second_moment));
  if (form == SecondMoment::kOfficial) return absl::OkStatus();
  if (options.optimizer != "adam-mini") {
    return absl::InvalidArgumentError(
        absl::StrCat("--second-moment ", options.second_moment,
                     " is for --optimizer adam-mini, not ", options.optimizer));
  }
  if (options.value_blocks != "rows") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--value-blocks ", options.value_blocks, " is for --second-moment ",
        SecondMomentName(SecondMoment::kOfficial), ": with ",
        options.second_moment, " the value projection has no blocks"));
  }
  return absl::OkStatus();
}

absl::Status CheckSharding(const PretrainOptions& options) {
  if (options.stage == 3 && options.memory != "flat") {
    return absl::InvalidArgumentError(absl::StrCat(
        "--stage 3 keeps the weights itself: --memory must be flat, not ",
        options.memory));
  }
  if (options.shard_group < 0 || options.prefetch < 0 ||
      options.gather_budget < 0 || !(options.clip_value >= 0)) {
    return absl::InvalidArgumentError(
        "--shard-group, --prefetch, --gather-budget and --clip-value must not "
        "be negative");
  }
  if (options.gather_budget > 0 && options.stage != 3) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--gather-budget is for --stage 3: nothing is gathered at stage ",
        options.stage));
  }
  return absl::OkStatus();
}

template <typename Format, typename NameOf>
absl::StatusOr<Format> ParseFormat(const char* flag, const std::string& name,
                                   std::initializer_list<Format> formats,
                                   NameOf name_of) {
  std::string known;
  for (Format format : formats) {
    if (name == name_of(format)) return format;
    absl::StrAppend(&known, known.empty() ? "" : ", ", name_of(format));
  }
  return absl::InvalidArgumentError(
      absl::StrCat(flag, " must be one of ", known, ", not ", name));
}

}  // namespace

absl::StatusOr<MasterFormat> ParseMaster(const std::string& name) {
  return ParseFormat<MasterFormat>(
      "--master", name,
      {MasterFormat::kNone, MasterFormat::kFloat32, MasterFormat::kRemainder16,
       MasterFormat::kRemainder8},
      MasterFormatName);
}

absl::StatusOr<StateFormat> ParseMomentum(const std::string& name) {
  return ParseFormat<StateFormat>(
      "--momentum", name,
      {StateFormat::kFloat32, StateFormat::kBFloat16, StateFormat::kInt8},
      StateFormatName);
}

absl::StatusOr<SecondMoment> ParseSecondMoment(const std::string& name) {
  return ParseFormat<SecondMoment>(
      "--second-moment", name,
      {SecondMoment::kOfficial, SecondMoment::kFactored}, SecondMomentName);
}

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
  ZEROMINI_RETURN_IF_ERROR(CheckSecondMoment(options));
  ZEROMINI_RETURN_IF_ERROR(CheckFormats(options));
  ZEROMINI_RETURN_IF_ERROR(CheckSharding(options));
  ZEROMINI_RETURN_IF_ERROR(CheckSizes(options));
  return CheckCounts(options);
}

}  // namespace zeromini::tools
