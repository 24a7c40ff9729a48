// Agreement: makes a decision that each rank takes alone the group's own, so
// that one rank's mistake is every rank's error and nobody waits.
//
// All of it goes over a control group (Communicator::control()), whose
// exchanges take host memory.

#ifndef ZEROMINI_RUNTIME_GROUP_AGREEMENT_H_
#define ZEROMINI_RUNTIME_GROUP_AGREEMENT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "comm/patience.h"
#include "runtime/options/option_fields.h"
#include "zeromini/communicator.h"
#include "zeromini/options.h"
#include "zeromini/plan.h"

namespace zeromini {

// How long the runtime waits for a stream. Every exchange ends by a deadline of
// its own and says which rank it waited for; a wait for many of them must not
// end before, with less to say. So this one only guards against a stream that
// never goes on.
inline absl::Duration StreamPatience(const Communicator& group) {
  return kExchangesOfPatience * group.timeout();
}

// Waits for what was enqueued on the group's stream.
absl::Status FinishExchange(Communicator& group);

// Collective. OK if `mine` is OK on all ranks; otherwise, on every rank, the
// error of the first rank that has one, with the rank named.
absl::Status AgreeOnStatus(const absl::Status& mine, Communicator& group);

// The same for a call about parameter `param`, or whatever number the caller
// gave: InvalidArgument on every rank if ranks name different ones.
absl::Status AgreeOnCall(const absl::Status& mine, int param,
                         Communicator& group);

// Collective. InvalidArgument on every rank, naming the first rank that differs
// from rank 0 and the first parameter or option that does, with both values.
absl::Status AgreeOnPlan(const Plan& plan, const OptimizerOptions& options,
                         Communicator& group);

// Collective. The first field that some rank has otherwise than rank 0, with
// those ranks and both values; empty if there is none. All ranks must have as
// many.
absl::Status NameOddField(const std::vector<OptionField>& mine,
                          Communicator& group, std::string* difference);

// Collective. Which ranks pass true.
absl::Status RanksWhere(bool here, Communicator& group,
                        std::vector<int>* ranks);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_GROUP_AGREEMENT_H_
