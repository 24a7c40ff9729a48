// What every communicator must do. Each function is one rank's part: call it
// with the same arguments on every rank of the group.

#ifndef ZEROMINI_TESTS_COMM_CONFORMANCE_H_
#define ZEROMINI_TESTS_COMM_CONFORMANCE_H_

#include "zeromini/communicator.h"

namespace zeromini {
namespace conformance {

// Waits for all that was enqueued and returns the stream's status.
absl::Status Drain(Communicator& group);

void ReduceScatterSumsInRankOrder(Communicator& group);
void ReduceScatterInPlaceLeavesOtherSegmentsAlone(Communicator& group);
void AllGatherPutsEverySegmentInPlace(Communicator& group);
void AllReduceFoldsInRankOrder(Communicator& group);
void BroadcastReachesAllFromAnyRoot(Communicator& group);
void ManyExchangesKeepTheirOrder(Communicator& group);
void SplitGroupsByColorAndOrdersByKey(Communicator& group);
void EmptyExchangesTouchNothing(Communicator& group);
void FinishWaitsForThisRankAlone(Communicator& group);

void AllToAllBringsEverySegmentToItsRank(Communicator& group);
void AllToAllWorksInAGroupThatWasSplitOff(Communicator& group);

// With bf16 on the wire and all ranks on one host.
void ABFloat16SumRoundsAllContributionsButTheOwners(Communicator& group);
void ABFloat16SumStaysWithinItsBoundAndReachesIt(Communicator& group);
void ABFloat16GatherRoundsEverySegment(Communicator& group);

// The group is broken after each of these.
void AnUnknownDTypeIsRefused(Communicator& group);
void AnUnknownReduceOperationIsRefused(Communicator& group);
void AnUnknownPurposeIsRefused(Communicator& group);

void CountsThatDoNotMatchAreNamedOnEveryRank(Communicator& group);
void AllToAllReportsWhyTheGroupWasAborted(Communicator& group);

// The group is broken after each of these. At least two ranks.
void DifferentCallsAreNamedOnEveryRank(Communicator& group);
void DifferentWireFormatsAreNamedOnEveryRank(Communicator& group);
void DifferentPlansAreNamedOnEveryRank(Communicator& group);
// The last rank does not come; `group` has a short timeout.
void AnAbsentRankIsNamedByAllOthers(Communicator& group);
void ARankThatIsAbsentFromAnAllToAllIsNamed(Communicator& group);
void AnAbortEndsTheWaitOfItsRank(Communicator& group);

}  // namespace conformance
}  // namespace zeromini

#endif  // ZEROMINI_TESTS_COMM_CONFORMANCE_H_
