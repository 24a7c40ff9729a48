#include "runtime/c/c_message.h"

#include <cstdlib>
#include <cstring>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace zeromini::c_api {
namespace {

static_assert(static_cast<int>(absl::StatusCode::kAlreadyExists) ==
              ZEROMINI_ALREADY_EXISTS);
static_assert(static_cast<int>(absl::StatusCode::kPermissionDenied) ==
              ZEROMINI_PERMISSION_DENIED);
static_assert(static_cast<int>(absl::StatusCode::kResourceExhausted) ==
              ZEROMINI_RESOURCE_EXHAUSTED);
static_assert(static_cast<int>(absl::StatusCode::kDataLoss) ==
              ZEROMINI_DATA_LOSS);
static_assert(static_cast<int>(absl::StatusCode::kUnauthenticated) ==
              ZEROMINI_UNAUTHENTICATED);

struct Renamed {
  absl::string_view cxx;
  absl::string_view c;
};

// Fields that are not here have one name in both. The first that fits is taken.
constexpr Renamed kNames[] = {
    {"ParamSpec::rule.rows_per_head", "zeromini_param.rows_per_head"},
    {"ParamSpec::rule.segments", "zeromini_param.segments"},
    {"ParamSpec::", "zeromini_param."},
    {"BlockRule::Kind::kAuto", "ZEROMINI_RULE_AUTO"},
    {"BlockRule::Kind::kElement", "ZEROMINI_RULE_ELEMENT"},
    {"BlockRule::Kind::kRows", "ZEROMINI_RULE_ROWS"},
    {"BlockRule::Kind::kHeads", "ZEROMINI_RULE_HEADS"},
    {"BlockRule::Kind::kWhole", "ZEROMINI_RULE_WHOLE"},
    {"BlockRule::Kind::kFused", "ZEROMINI_RULE_FUSED"},
    {"BlockRule::Kind::kFactored", "ZEROMINI_RULE_FACTORED"},
    {"BlockRule::Kind::kColumns", "ZEROMINI_RULE_COLUMNS"},
    {"BlockRule::Element", "ZEROMINI_RULE_ELEMENT"},
    {"BlockRule::Rows", "ZEROMINI_RULE_ROWS"},
    {"BlockRule::Heads", "ZEROMINI_RULE_HEADS"},
    {"BlockRule::Whole", "ZEROMINI_RULE_WHOLE"},
    {"BlockRule::Fused", "ZEROMINI_RULE_FUSED"},
    {"BlockRule::Factored", "ZEROMINI_RULE_FACTORED"},
    {"BlockRule::Columns", "ZEROMINI_RULE_COLUMNS"},
    {"BlockRule::", "zeromini_param."},
    {"BlockCuts::kWhole", "ZEROMINI_BLOCKS_WHOLE"},
    {"Element()", "ZEROMINI_RULE_ELEMENT"},
    {"Rows()", "ZEROMINI_RULE_ROWS"},
    {"Heads(", "ZEROMINI_RULE_HEADS("},
    {"Whole()", "ZEROMINI_RULE_WHOLE"},
    {"Fused(", "ZEROMINI_RULE_FUSED("},
    {"Factored()", "ZEROMINI_RULE_FACTORED"},
    {"Columns()", "ZEROMINI_RULE_COLUMNS"},
    {"OptimizerOptions::model.", "zeromini_options."},
    {"OptimizerOptions::", "zeromini_options."},
    {"options.model.", "zeromini_options."},
    {"ModelShape::", "zeromini_options."},
    {"HyperGroup::algorithm", "zeromini_hyper_group.own_algorithm"},
    {"HyperGroup::", "zeromini_hyper_group."},
    {"StepOptions::", "zeromini_step_options."},
    {"StepReport::", "zeromini_step_report."},
    {"MemoryReport::", "zeromini_memory_report."},
    {"GroupOptions::timeout", "zeromini_group_options.timeout_seconds"},
    {"GroupOptions::make_stream", "the C++ API's make_stream"},
    {"GroupOptions::", "zeromini_group_options."},
    {"PlanOptions::", "zeromini_plan_options."},
    {"DeviceKind::", ""},
    {"kHost", "ZEROMINI_HOST"},
    {"kCuda", "ZEROMINI_CUDA"},
    {"DType::kFloat32", "ZEROMINI_FLOAT32"},
    {"DType::kBFloat16", "ZEROMINI_BFLOAT16"},
    {"DType::kFloat16", "ZEROMINI_FLOAT16"},
    {"AbsentGradients::", ""},
    {"NonFiniteGradients::", ""},
    {"MemoryForm::", ""},
    {"kError", "ZEROMINI_FAIL"},
    {"kSkip", "ZEROMINI_SKIP"},
    {"kIgnore", "ZEROMINI_IGNORE"},
    {"kLayerSetOfLayer", "ZEROMINI_LAYER_SET_OF_LAYER"},
    {"kNoLayerSet", "ZEROMINI_NO_LAYER_SET"},
    {"kExternal", "ZEROMINI_MEMORY_EXTERNAL"},
    {"kFlat", "ZEROMINI_MEMORY_FLAT"},
    {"Optimizer::", ""},
    {"ParamData()", "zeromini_param_data()"},
    {"GradData()", "zeromini_grad_data()"},
    {"GradReady()", "zeromini_grad_ready()"},
    {"SetParam()", "zeromini_set_param()"},
    {"SetHyperGroup()", "zeromini_set_hyper_group()"},
    {"Gather()", "zeromini_gather()"},
    {"Release()", "zeromini_release()"},
    {"Step()", "zeromini_step()"},
    {"LastReport()", "zeromini_last_report()"},
    {"WaitParam()", "zeromini_wait_param()"},
    {"WaitAll()", "zeromini_wait_all()"},
    {"BroadcastParams()", "zeromini_broadcast_params()"},
    {"WrapMpi", "zeromini_wrap_mpi"},
};

bool InName(char c) { return absl::ascii_isalnum(c) || c == '_'; }

// What `rest`, which begins a word, begins with; null if nothing of the table.
const Renamed* FindName(absl::string_view rest) {
  for (const Renamed& name : kNames) {
    if (!absl::StartsWith(rest, name.cxx)) continue;
    const bool cut = InName(name.cxx.back()) && rest.size() > name.cxx.size() &&
                     InName(rest[name.cxx.size()]);
    if (!cut) return &name;
  }
  return nullptr;
}

}  // namespace

std::string InC(absl::string_view message) {
  std::string text;
  while (!message.empty()) {
    const bool begins = text.empty() || !InName(text.back());
    const Renamed* name = begins ? FindName(message) : nullptr;
    if (name == nullptr) {
      text.push_back(message.front());
      message.remove_prefix(1);
    } else {
      text.append(name->c.data(), name->c.size());
      message.remove_prefix(name->cxx.size());
    }
  }
  return text;
}

char* CopyString(const std::string& text) {
  char* copy = static_cast<char*>(std::malloc(text.size() + 1));
  if (copy != nullptr) std::memcpy(copy, text.c_str(), text.size() + 1);
  return copy;
}

zeromini_code Fail(const absl::Status& status, char** error) {
  if (!status.ok() && error != nullptr) {
    *error = CopyString(InC(status.message()));
  }
  return static_cast<zeromini_code>(status.code());
}

}  // namespace zeromini::c_api
