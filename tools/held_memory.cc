#include "tools/held_memory.h"

#include <algorithm>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tools/layer_walk.h"
#include "tools/rank_threads.h"
#include "zeromini/group.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/plan_bytes.h"

namespace zeromini::tools {
namespace {

// "VmRSS" or "VmHWM" of this process, in bytes; 0 where /proc lacks it.
int64_t ResidentBytes(const std::string& field) {
  std::ifstream status("/proc/self/status");
  std::string word;
  int64_t kibibytes = 0;
  while (status >> word) {
    if (word == field + ":" && status >> kibibytes) return kibibytes << 10;
  }
  return 0;
}

int64_t ElementsOf(const PlannedParam& param) {
  return param.rows * param.row_elements;
}

class Rank {
 public:
  Rank(const ModelPreset& model, const MemoryCase& choice, Communicator& group)
      : model_(model), choice_(choice), group_(group) {}

  absl::Status Create() {
    std::vector<ParamSpec> params = model_.params;
    for (ParamSpec& param : params) param.dtype = choice_.dtype;
    OptimizerOptions options;
    options.algorithm = choice_.optimizer.algorithm;
    options.second_moment = choice_.optimizer.second_moment;
    options.stage = choice_.stage;
    options.memory = MemoryForm::kFlat;
    options.master = choice_.master;
    options.state = choice_.state;
    options.model = model_.shape;
    options.bucket_bytes = choice_.bucket_bytes;
    ZEROMINI_ASSIGN_OR_RETURN(options.gather_budget_bytes,
                              GatherBudget(params, options, group_.size()));
    budget_ = options.gather_budget_bytes;
    ZEROMINI_ASSIGN_OR_RETURN(optimizer_,
                              Optimizer::Create(options, params, group_));
    planned_ = MemoryOf(optimizer_->plan(), options, group_.rank());
    walk_ = std::make_unique<LayerWalk>(*optimizer_);
    at_rest_ = optimizer_->Memory();
    return absl::OkStatus();
  }

  absl::Status Step() {
    int64_t largest = 0;
    for (const PlannedParam& param : plan().params) {
      largest = std::max(largest, ElementsOf(param));
    }
    gradient_.assign(largest * SizeOf(choice_.dtype), 0);
    ZEROMINI_RETURN_IF_ERROR(Forward());
    ZEROMINI_RETURN_IF_ERROR(Backward());
    StepOptions options;
    options.learning_rate = 1e-3;
    ZEROMINI_ASSIGN_OR_RETURN(const StepReport report,
                              optimizer_->Step(options));
    update_seconds_ = report.seconds_update;
    return absl::OkStatus();
  }

  const Plan& plan() const { return optimizer_->plan(); }
  const MemoryReport& at_rest() const { return at_rest_; }
  const MemoryReport& planned() const { return planned_; }
  int64_t budget() const { return budget_; }
  int64_t peak() const { return optimizer_->Memory().peak; }
  double update_seconds() const { return update_seconds_; }
  absl::Status Close() { return optimizer_->Close(); }

 private:
  absl::Status Forward() {
    for (size_t p = 0; p < plan().params.size(); ++p) {
      ZEROMINI_RETURN_IF_ERROR(
          walk_->Enter(static_cast<int>(p), GatherPass::kForward));
    }
    return absl::OkStatus();
  }

  absl::Status Backward() {
    for (size_t p = plan().params.size(); p-- > 0;) {
      const int param = static_cast<int>(p);
      ZEROMINI_RETURN_IF_ERROR(walk_->Enter(param, GatherPass::kBackward));
      ZEROMINI_RETURN_IF_ERROR(optimizer_->GradReady(param, gradient_.data()));
    }
    return absl::OkStatus();
  }

  const ModelPreset& model_;
  const MemoryCase& choice_;
  Communicator& group_;
  std::unique_ptr<Optimizer> optimizer_;
  std::unique_ptr<LayerWalk> walk_;
  MemoryReport planned_;
  MemoryReport at_rest_;
  int64_t budget_ = 0;
  double update_seconds_ = 0;
  std::vector<char> gradient_;
};

// The same call on every rank, each on a thread of its own.
absl::Status OnAll(std::vector<std::unique_ptr<Communicator>>& group,
                   std::vector<std::unique_ptr<Rank>>& ranks,
                   absl::Status (Rank::*call)()) {
  std::vector<absl::Status> results(ranks.size());
  ZEROMINI_RETURN_IF_ERROR(OnRankThreads(
      group, [&](int r) { results[r] = (ranks[r].get()->*call)(); }));
  for (const absl::Status& result : results) {
    ZEROMINI_RETURN_IF_ERROR(result);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<HeldMemory> HoldMemory(const ModelPreset& model,
                                      const MemoryCase& choice) {
  const int64_t before = ResidentBytes("VmRSS");
  ZEROMINI_ASSIGN_OR_RETURN(auto group, ThreadGroup(choice.ranks));
  std::vector<std::unique_ptr<Rank>> ranks;
  for (int r = 0; r < choice.ranks; ++r) {
    ranks.push_back(std::make_unique<Rank>(model, choice, *group[r]));
  }
  ZEROMINI_RETURN_IF_ERROR(OnAll(group, ranks, &Rank::Create));
  HeldMemory held;
  held.resident_at_rest = ResidentBytes("VmRSS") - before;
  for (const auto& rank : ranks) {
    held.weights += rank->at_rest().weights;
    held.master += rank->at_rest().master;
    held.momentum += rank->at_rest().momentum;
    held.second_moment += rank->at_rest().second_moment;
    const MemoryReport& planned = rank->planned();
    held.expected += planned.weights + planned.master + planned.momentum +
                     planned.second_moment;
  }
  const Rank& first = *ranks[0];
  for (const PlannedParam& param : first.plan().params) {
    if (param.tied_to < 0) held.parameters += ElementsOf(param);
  }
  held.gradients = first.at_rest().gradients;
  held.gather_budget = first.budget();
  ZEROMINI_RETURN_IF_ERROR(OnAll(group, ranks, &Rank::Step));
  ZEROMINI_RETURN_IF_ERROR(OnAll(group, ranks, &Rank::Step));
  held.update_seconds = first.update_seconds();
  held.peak = first.peak();
  held.peak_expected = first.planned().peak;
  held.resident_peak = ResidentBytes("VmHWM") - before;
  ZEROMINI_RETURN_IF_ERROR(OnAll(group, ranks, &Rank::Close));
  return held;
}

}  // namespace zeromini::tools
