// What a rank holds and sends, of c.h: the numbers of plan_bytes.h.

#include "absl/status/status.h"
#include "runtime/c/c_check.h"
#include "runtime/c/c_convert.h"
#include "runtime/c/c_handles.h"
#include "runtime/c/c_message.h"
#include "zeromini/c.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/plan_bytes.h"

namespace {

using zeromini::Plan;
using zeromini::c_api::CheckNotNull;
using zeromini::c_api::CheckOut;
using zeromini::c_api::CheckRange;
using zeromini::c_api::Fail;
using zeromini::c_api::ToC;
using zeromini::c_api::WithoutThrowing;

// Numbers of a plan hold for the options that it was made with alone, so C
// cannot give others.
absl::Status CheckPlan(const zeromini_plan* plan) {
  ZEROMINI_RETURN_IF_ERROR(CheckNotNull("plan", plan));
  if (plan->options != nullptr) return absl::OkStatus();
  return absl::InvalidArgumentError(
      "plan is one of zeromini_make_plan, which knows no formats and no memory "
      "of an optimizer: make it with zeromini_plan_for");
}

absl::Status Check(const zeromini_plan* plan, int rank) {
  ZEROMINI_RETURN_IF_ERROR(CheckPlan(plan));
  const zeromini::PlanOptions& options = plan->impl->options;
  return CheckRange("rank", rank, 0, options.ranks * options.replicas - 1);
}

}  // namespace

zeromini_code zeromini_memory_of(const zeromini_plan* plan, int rank,
                                 zeromini_memory_report* report, char** error) {
  const auto count = [&]() -> absl::Status {
    ZEROMINI_RETURN_IF_ERROR(Check(plan, rank));
    ZEROMINI_RETURN_IF_ERROR(CheckOut("report", report));
    ToC(zeromini::MemoryOf(*plan->impl, *plan->options, rank), report);
    return absl::OkStatus();
  };
  return Fail(WithoutThrowing(count), error);
}

zeromini_code zeromini_step_bytes_of(const zeromini_plan* plan, int rank,
                                     zeromini_step_bytes* bytes, char** error) {
  const auto count = [&]() -> absl::Status {
    ZEROMINI_RETURN_IF_ERROR(Check(plan, rank));
    ZEROMINI_RETURN_IF_ERROR(CheckOut("bytes", bytes));
    ToC(zeromini::StepBytesOf(*plan->impl, *plan->options, rank), bytes);
    return absl::OkStatus();
  };
  return Fail(WithoutThrowing(count), error);
}

int zeromini_largest_rank(const zeromini_plan* plan) {
  int rank = -1;
  WithoutThrowing([&] {
    ZEROMINI_RETURN_IF_ERROR(CheckPlan(plan));
    rank = zeromini::LargestRank(*plan->impl, *plan->options);
    return absl::OkStatus();
  }).IgnoreError();
  return rank;
}
