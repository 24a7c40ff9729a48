#include "tools/train/snr_run.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "tools/agree_on.h"
#include "tools/files/apart.h"
#include "tools/files/json_file.h"
#include "tools/files/text_file.h"
#include "tools/sharing/moment_parts.h"
#include "tools/sharing/sharing_page.h"
#include "tools/train/pretrain.h"
#include "tools/train/run_checks.h"
#include "tools/train/run_files.h"
#include "tools/train/train_optimizer.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

// A device or a pipe holds no earlier result.
absl::Status CheckNew(const char* flag, const std::string& path) {
  std::error_code ignored;
  if (!std::filesystem::is_regular_file(path, ignored)) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat(flag, " ", path,
                   ": is there already; choose another file or say "
                   "--overwrite"));
}

absl::Status CheckFiles(const SnrOptions& options) {
  ZEROMINI_ASSIGN_OR_RETURN(const std::vector<FlagFile> inputs,
                            InputsOf(options.run));
  ZEROMINI_RETURN_IF_ERROR(
      CheckApart(inputs, {{"--json", options.json}, {"--html", options.html}}));
  if (!options.overwrite) {
    ZEROMINI_RETURN_IF_ERROR(CheckNew("--json", options.json));
    ZEROMINI_RETURN_IF_ERROR(CheckNew("--html", options.html));
  }
  ZEROMINI_RETURN_IF_ERROR(CheckWritable(options.json));
  return CheckWritable(options.html);
}

class SharingWatcher : public RunWatcher {
 public:
  explicit SharingWatcher(const SnrOptions& options) : options_(options) {
    record_.beta2 = options.run.beta2;
  }

  // Every rank takes part in a measurement, or none.
  absl::Status Begin(Communicator& group) override {
    leads_ = group.rank() == 0;
    ZEROMINI_RETURN_IF_ERROR(
        AgreeOnFacts({{"every", absl::StrCat(options_.every)}}, group));
    return AgreeOn(leads_ ? CheckFiles(options_) : absl::OkStatus(), group);
  }

  absl::Status AfterStep(int64_t step, TrainOptimizer& optimizer) override {
    if (step % options_.every != 0 && step != options_.run.schedule.steps) {
      return absl::OkStatus();
    }
    Optimizer& adamw = *optimizer.sharded();
    if (record_.parts.empty()) {
      ZEROMINI_ASSIGN_OR_RETURN(std::vector<MomentPart> parts,
                                PartsOf(adamw.plan()));
      for (MomentPart& part : parts) {
        record_.parts.push_back({std::move(part), {}});
      }
    }
    record_.steps.push_back(step);
    return Measure(adamw);
  }

  SharingRecord& record() { return record_; }

 private:
  absl::Status Measure(Optimizer& adamw) {
    size_t next = 0;
    while (next < record_.parts.size()) {
      const int param = record_.parts[next].part.param;
      ZEROMINI_ASSIGN_OR_RETURN(const Optimizer::ParamState state,
                                adamw.ConsolidatedState(param));
      // Parts of one tensor lie one behind the other.
      for (; next < record_.parts.size() &&
             record_.parts[next].part.param == param;
           ++next) {
        PartSeries& series = record_.parts[next];
        if (!leads_) continue;
        series.snr.push_back(
            MeasureSnr(ViewOf(series.part, state.second_moment.data())));
      }
    }
    return absl::OkStatus();
  }

  const SnrOptions& options_;
  bool leads_ = false;
  SharingRecord record_;
};

std::string About(const SnrOptions& options, const PretrainResult& result,
                  int ranks) {
  const PretrainOptions& run = options.run;
  return absl::StrFormat(
      "%s of %d parameters, AdamW, %d steps of %d tokens, peak rate %g, betas "
      "%g and %g, seed %d, %d rank%s; validation loss %.4f",
      ArchitectureName(run.model.architecture), ParameterCount(run.model),
      run.schedule.steps, run.batch * run.length, run.schedule.peak, run.beta1,
      run.beta2, run.seed, ranks, ranks == 1 ? "" : "s",
      result.validation_loss);
}

// The run is over: what cannot be written here is rank 0's error alone.
absl::Status WriteFiles(const SnrOptions& options, const PretrainResult& result,
                        const SharingRecord& record, int ranks) {
  const Suggestion suggestion = Suggest(record, options.threshold);
  nlohmann::json json = ToJson(record);
  json["options"] = ToJson(options.run);
  json["ranks"] = ranks;
  json["every"] = options.every;
  json["training_losses"] = result.losses;
  json["validation_loss"] = result.validation_loss;
  json["suggestion"] = ToJson(suggestion);
  ZEROMINI_RETURN_IF_ERROR(WriteJson(options.json, json, -1));
  if (options.html.empty()) return absl::OkStatus();
  return WriteTextFile(
      options.html,
      SharingPage(record, suggestion, About(options, result, ranks)));
}

}  // namespace

absl::Status Complete(SnrOptions& options) {
  PretrainOptions& run = options.run;
  run.optimizer = "adamw";
  run.out.clear();
  run.eval_every = 0;
  if (options.every == 0) {
    options.every = std::max<int64_t>(1, run.schedule.steps / 20);
  }
  if (options.every < 1 || options.every > run.schedule.steps) {
    return absl::InvalidArgumentError(
        absl::StrCat("--every must be from 1 to --steps, ", run.schedule.steps,
                     ", not ", options.every));
  }
  if (!(options.threshold > 0) || !std::isfinite(options.threshold)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "--threshold must be a number above 0, not ", options.threshold));
  }
  return absl::OkStatus();
}

absl::StatusOr<SharingRecord> MeasureSharing(const SnrOptions& options,
                                             Communicator& group) {
  SharingWatcher watcher(options);
  ZEROMINI_ASSIGN_OR_RETURN(const PretrainResult result,
                            Pretrain(options.run, group, &watcher));
  SharingRecord& record = watcher.record();
  if (group.rank() == 0) {
    ZEROMINI_RETURN_IF_ERROR(WriteFiles(options, result, record, group.size()));
  }
  return std::move(record);
}

}  // namespace zeromini::tools
