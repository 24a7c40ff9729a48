// What the core does not see of how ranks train, agreed on.
// Included by zeromini/internal/torch_attach.h.

#ifndef ZEROMINI_INTERNAL_TORCH_AGREEMENT_H_
#define ZEROMINI_INTERNAL_TORCH_AGREEMENT_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "zeromini/communicator.h"
#include "zeromini/stream.h"

namespace zeromini {
namespace internal {

// Collective. InvalidArgument on every rank, naming one and both values, if
// another rank's differ from rank 0's. Where micro-steps add up in torch's own
// gradients the core is told of one.
inline absl::Status AgreeOnMicroSteps(int64_t mine, Communicator& group) {
  std::vector<int64_t> all(group.size(), 0);
  int64_t* own = &all[group.rank()];
  *own = mine;
  absl::Status status =
      group.AllGather(own, all.data(), 1, DType::kInt64, Exchange());
  if (!status.ok()) return status;
  // The exchange has a deadline; `all` must last until it is over.
  if (HostStream* stream = HostStream::From(group.stream())) {
    status = stream->Record()->Wait(absl::InfiniteFuture());
    if (!status.ok()) return status;
  }
  for (size_t rank = 1; rank < all.size(); ++rank) {
    if (all[rank] == all[0]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("ranks disagree: micro_steps is ", all[rank], " on rank ",
                     rank, " but ", all[0], " on rank 0"));
  }
  return absl::OkStatus();
}

}  // namespace internal
}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_TORCH_AGREEMENT_H_
