#include "tools/held_memory.h"

#include <algorithm>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "tools/rank_threads.h"
#include "zeromini/group.h"
#include "zeromini/internal/format_bytes.h"
#include "zeromini/internal/status_macros.h"

namespace zeromini::tools {
namespace {

constexpr int kBuffersInFlight = 3;  // runtime/step_pipeline.cc, kPoolTarget.

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

// Of one row of state, scales included. Rows of single elements stay fp32 under
// int8.
int64_t StateRowBytes(StateFormat format, int64_t elements) {
  constexpr int64_t kScaleBytes = 2;
  if (format == StateFormat::kInt8 && elements == 1) {
    format = StateFormat::kFloat32;
  }
  return elements * StateBytes(format) +
         kScaleBytes * ScalesPerRow(format, elements);
}

// Weights and state of all ranks, from the plan and the formats alone.
int64_t ExpectedAtRest(const Plan& plan, const MemoryCase& choice) {
  int64_t bytes = 0;
  for (const PlannedParam& param : plan.params) {
    if (!param.has_state()) continue;
    const int64_t row = StateRowBytes(choice.state, param.row_elements);
    bytes += param.rows * row;
    if (param.keeps_second_moment()) {
      bytes += param.element_state ? param.rows * row : 4 * param.blocks_total;
    }
    if (param.dtype != DType::kFloat32) {
      bytes += ElementsOf(param) * MasterBytes(choice.master);
    }
  }
  for (const BucketPlan& bucket : plan.buckets) {
    const bool padded = choice.stage == 3 || bucket.in_place();
    bytes += SizeOf(bucket.dtype) *
             (padded ? bucket.segment * plan.options.ranks : bucket.elements);
  }
  return bytes;
}

// What gathering takes: what is outside of the layers and the two largest
// layers, one in use and one on its way.
int64_t GatherBudget(const Plan& plan) {
  std::map<int, int64_t> bytes_of;
  for (const BucketPlan& bucket : plan.buckets) {
    bytes_of[bucket.layer_set] = GatherBytes(plan, bucket.layer_set);
  }
  std::vector<int64_t> layers;
  for (const auto& [group, bytes] : bytes_of) {
    if (group >= 0) layers.push_back(bytes);
  }
  std::sort(layers.rbegin(), layers.rend());
  int64_t budget = bytes_of.count(kNoLayerSet) > 0 ? bytes_of[kNoLayerSet] : 0;
  for (size_t i = 0; i < std::min<size_t>(2, layers.size()); ++i) {
    budget += layers[i];
  }
  return budget;
}

// The buffers that reduce-scatters run in.
int64_t WireBytes(const Plan& plan) {
  int64_t largest = 0;
  int64_t buckets = 0;
  for (const BucketPlan& bucket : plan.buckets) {
    const bool at_home = plan.options.stage == 1 && bucket.in_place() &&
                         bucket.dtype == DType::kFloat32;
    if (at_home) continue;
    ++buckets;
    largest = std::max(largest, bucket.wire_segment);
  }
  return std::min<int64_t>(buckets, kBuffersInFlight) * largest *
         plan.options.ranks * SizeOf(DType::kFloat32);
}

class Rank {
 public:
  Rank(const ModelPreset& model, const MemoryCase& choice, Communicator& group)
      : model_(model), choice_(choice), group_(group) {}

  absl::Status Create() {
    std::vector<ParamSpec> params = model_.params;
    for (ParamSpec& param : params) param.dtype = choice_.dtype;
    OptimizerOptions options;
    options.algorithm = choice_.algorithm;
    options.stage = choice_.stage;
    options.memory = MemoryForm::kFlat;
    options.master = choice_.master;
    options.state = choice_.state;
    options.model = model_.shape;
    options.bucket_bytes = choice_.bucket_bytes;
    if (choice_.stage == 3) {
      ZEROMINI_ASSIGN_OR_RETURN(options.gather_budget_bytes,
                                PlannedBudget(params, options));
    }
    budget_ = options.gather_budget_bytes;
    ZEROMINI_ASSIGN_OR_RETURN(optimizer_,
                              Optimizer::Create(options, params, group_));
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
  int64_t budget() const { return budget_; }
  int64_t peak() const { return optimizer_->Memory().peak; }
  double update_seconds() const { return update_seconds_; }
  absl::Status Close() { return optimizer_->Close(); }

 private:
  absl::StatusOr<int64_t> PlannedBudget(const std::vector<ParamSpec>& params,
                                        const OptimizerOptions& options) {
    PlanOptions plan_options;
    plan_options.algorithm = options.algorithm;
    plan_options.ranks = group_.size();
    plan_options.stage = options.stage;
    plan_options.model = options.model;
    plan_options.bucket_bytes = options.bucket_bytes;
    ZEROMINI_ASSIGN_OR_RETURN(const Plan planned,
                              MakePlan(params, plan_options));
    return GatherBudget(planned);
  }

  // Enters a parameter's group, and leaves the layer that the pass was in.
  absl::Status Enter(int param, GatherPass pass) {
    const int group = plan().params[param].layer_set;
    if (choice_.stage != 3 || !plan().params[param].has_state()) {
      return absl::OkStatus();
    }
    if (group != current_ && current_ >= 0) {
      ZEROMINI_RETURN_IF_ERROR(optimizer_->Release(current_));
    }
    if (group >= 0) current_ = group;
    ZEROMINI_RETURN_IF_ERROR(optimizer_->Gather(group, pass));
    return optimizer_->WaitParam(param);
  }

  absl::Status Forward() {
    for (size_t p = 0; p < plan().params.size(); ++p) {
      ZEROMINI_RETURN_IF_ERROR(
          Enter(static_cast<int>(p), GatherPass::kForward));
    }
    return absl::OkStatus();
  }

  absl::Status Backward() {
    for (size_t p = plan().params.size(); p-- > 0;) {
      const int param = static_cast<int>(p);
      ZEROMINI_RETURN_IF_ERROR(Enter(param, GatherPass::kBackward));
      ZEROMINI_RETURN_IF_ERROR(optimizer_->GradReady(param, gradient_.data()));
    }
    return absl::OkStatus();
  }

  const ModelPreset& model_;
  const MemoryCase& choice_;
  Communicator& group_;
  std::unique_ptr<Optimizer> optimizer_;
  MemoryReport at_rest_;
  int64_t budget_ = 0;
  int current_ = -1;
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
  }
  const Rank& first = *ranks[0];
  for (const PlannedParam& param : first.plan().params) {
    if (param.tied_to < 0) held.parameters += ElementsOf(param);
  }
  held.expected = ExpectedAtRest(first.plan(), choice);
  held.gradients = first.at_rest().gradients;
  held.gather_budget = first.budget();
  ZEROMINI_RETURN_IF_ERROR(OnAll(group, ranks, &Rank::Step));
  ZEROMINI_RETURN_IF_ERROR(OnAll(group, ranks, &Rank::Step));
  held.update_seconds = first.update_seconds();
  held.peak = first.peak();
  held.peak_expected =
      first.at_rest().total() + WireBytes(first.plan()) + held.gather_budget;
  held.resident_peak = ResidentBytes("VmHWM") - before;
  ZEROMINI_RETURN_IF_ERROR(OnAll(group, ranks, &Rank::Close));
  return held;
}

}  // namespace zeromini::tools
