// What to say when ranks made their exchanges in different orders.

#include <algorithm>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "runtime/step/step_pipeline.h"

namespace zeromini {

// Of the bucket whose exchange did not match, or of the one that has not left
// for want of a gradient; empty if gradients have no part in it.
std::string StepPipeline::OrderHint() const {
  const int buckets = static_cast<int>(buckets_.size());
  const auto describe = [&](int param, const char* what) {
    // What is tied is gathered with what it is tied to.
    const int tied_to = plan_.params[param].tied_to;
    const int owner = tied_to >= 0 ? tied_to : param;
    return absl::StrCat("on rank ", group_.rank(), " ", what, " '",
                        plan_.params[param].name, "' (layer set ",
                        plan_.params[owner].layer_set, ")");
  };
  for (int fired = std::max(0, fired_ - buckets); fired < fired_; ++fired) {
    const int bucket = buckets - 1 - fired % buckets;
    const Event landed = buckets_[bucket]->landed();
    if (device_.Synchronize(landed, absl::Now()).ok()) continue;
    return describe(plan_.buckets[bucket].params.front(),
                    "all gradients had come of the bucket with");
  }
  if (fired_ >= buckets * Exchanges()) return "";
  const int next = buckets - 1 - fired_ % buckets;
  const int missing = buckets_[next]->FirstMissing(fired_ / buckets);
  if (missing < 0) return "";
  return describe(missing, "a gradient had not come of");
}

absl::Status StepPipeline::Explain(absl::Status why) const {
  // Other codes are no difference between ranks' calls.
  if (options_.stage != 3 || !absl::IsInvalidArgument(why)) return why;
  const std::string hint = OrderHint();
  return absl::Status(
      why.code(),
      absl::StrCat(why.message(),
                   "; at stage 3 all ranks must call Gather() and GradReady() "
                   "in one order, and with gathers in between a gradient comes "
                   "on all ranks or on none, whatever absent_gradients is",
                   hint.empty() ? "" : "; ", hint));
}

}  // namespace zeromini
