// StateGather: a parameter's full state from the shards of all ranks.

#ifndef ZEROMINI_RUNTIME_STATE_STATE_GATHER_H_
#define ZEROMINI_RUNTIME_STATE_STATE_GATHER_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "runtime/device/device.h"
#include "runtime/state/shard_state.h"
#include "zeromini/communicator.h"
#include "zeromini/optimizer.h"
#include "zeromini/plan.h"

namespace zeromini {

// In two halves, so that ranks can agree that all have the memory for it before
// anything is sent.
class StateGather {
 public:
  // Local; all references must outlive it. ResourceExhausted if there is no
  // room.
  static absl::StatusOr<StateGather> Create(const Plan& plan, int param,
                                            Communicator& group,
                                            Device& device);

  // Collective, once. Each rank sends its rows and blocks, padded to the most
  // that any rank has. `patience`: as ShardState::Read().
  absl::StatusOr<Optimizer::ParamState> Run(const ShardState& state,
                                            absl::Duration patience);

 private:
  StateGather(const Plan& plan, int param, Communicator& group, Device& device)
      : plan_(plan), param_(param), group_(group), device_(device) {}

  const Plan& plan_;
  const int param_;
  Communicator& group_;
  Device& device_;
  int64_t segment_ = 0;  // Elements of the largest share.
  int64_t useful_ = 0;   // Elements of all shares.
  Buffer all_;
  Buffer here_;  // The same on the host.
  Optimizer::ParamState state_;
};

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_STATE_STATE_GATHER_H_
