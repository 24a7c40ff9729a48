// Stage 3 of a random case: gathers and releases in odd orders, within a budget
// that may just suffice for one layer set.

#ifndef ZEROMINI_TESTS_SUPPORT_RANDOM_GATHERS_H_
#define ZEROMINI_TESTS_SUPPORT_RANDOM_GATHERS_H_

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "support/random_case.h"
#include "support/random_giver.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/optimizer.h"

namespace zeromini {

class RandomGathers {
 public:
  RandomGathers(const RandomCase& c, Optimizer& optimizer)
      : c_(c), optimizer_(optimizer) {
    for (const PlannedParam& param : optimizer.plan().params) {
      if (param.has_state()) AddTo(&groups_, param.layer_set);
    }
  }

  absl::Status GatherAny(uint64_t seed) {
    Dice dice(seed);
    return Gather(dice, dice.Int(0, int(groups_.size()) - 1));
  }

  absl::Status GatherParam(int t) {
    ZEROMINI_RETURN_IF_ERROR(Gather(GroupOf(t), GatherPass::kNone));
    return optimizer_.WaitParam(t);
  }
  absl::Status ReleaseParam(int t) { return optimizer_.Release(GroupOf(t)); }

  // What `read` does on the stream, with the weights there, is all in time.
  absl::Status ReadOn(CallerStream& stream, int t,
                      std::function<void(const void*)> read) {
    ZEROMINI_RETURN_IF_ERROR(Gather(GroupOf(t), GatherPass::kNone));
    ZEROMINI_RETURN_IF_ERROR(optimizer_.WaitParam(t, stream.handle()));
    stream.queue().Enqueue(
        [read = std::move(read), data = optimizer_.ParamData(t)] {
          read(data);
          return absl::OkStatus();
        });
    return optimizer_.Release(GroupOf(t), stream.handle());
  }

  // The gradients of a micro-step, in an order that all ranks share, each group
  // gathered meanwhile.
  absl::Status Give(const RandomStep& step, int s, int micro, Giver& giver) {
    if (c_.walks_forward) ZEROMINI_RETURN_IF_ERROR(Walk());
    Dice dice(step.order_seed + micro);
    std::vector<int> order = giver.Trained();
    dice.Shuffle(&order);
    std::vector<int> groups;
    for (int t : order) AddTo(&groups, GroupOf(t));
    for (int group : groups) {
      if (c_.gathers_oddly) ZEROMINI_RETURN_IF_ERROR(Wander(dice));
      ZEROMINI_RETURN_IF_ERROR(Gather(group, AnyPass(dice)));
      for (int t : order) {
        if (GroupOf(t) != group) continue;
        ZEROMINI_RETURN_IF_ERROR(optimizer_.WaitParam(t));
        ZEROMINI_RETURN_IF_ERROR(giver.Give(t, step, s, micro));
      }
      const bool keeps = c_.gathers_oddly && dice.OneIn(2);
      if (!keeps) ZEROMINI_RETURN_IF_ERROR(optimizer_.Release(group));
    }
    return absl::OkStatus();
  }

 private:
  static void AddTo(std::vector<int>* groups, int group) {
    if (!std::count(groups->begin(), groups->end(), group)) {
      groups->push_back(group);
    }
  }
  static GatherPass AnyPass(Dice& dice) {
    return dice.Of(
        {GatherPass::kForward, GatherPass::kBackward, GatherPass::kNone});
  }

  // A tied tensor is gathered with the one that owns its memory.
  int GroupOf(int t) const {
    const auto& params = optimizer_.plan().params;
    const int owner = params[t].tied_to >= 0 ? params[t].tied_to : t;
    return params[owner].layer_set;
  }

  // Lets others go where there is no room beside them.
  absl::Status Gather(int group, GatherPass pass) {
    const absl::Status gathered = optimizer_.Gather(group, pass);
    if (!c_.just_fits_budget || !absl::IsResourceExhausted(gathered)) {
      return gathered;
    }
    for (int other : groups_) {
      if (other == group) continue;
      ZEROMINI_RETURN_IF_ERROR(optimizer_.Release(other));
    }
    return optimizer_.Gather(group, pass);
  }
  absl::Status Gather(Dice& dice, int i) {
    return Gather(groups_[i], AnyPass(dice));
  }

  // As forward would.
  absl::Status Walk() {
    for (int group : groups_) {
      ZEROMINI_RETURN_IF_ERROR(Gather(group, GatherPass::kForward));
      ZEROMINI_RETURN_IF_ERROR(optimizer_.Release(group));
    }
    return absl::OkStatus();
  }

  absl::Status Wander(Dice& dice) {
    for (int left = dice.Int(0, 4); left > 0; --left) {
      const int i = dice.Int(0, int(groups_.size()) - 1);
      if (dice.OneIn(3)) {
        ZEROMINI_RETURN_IF_ERROR(optimizer_.Release(groups_[i]));
      } else {
        ZEROMINI_RETURN_IF_ERROR(Gather(dice, i));
      }
    }
    return absl::OkStatus();
  }

  const RandomCase& c_;
  Optimizer& optimizer_;
  std::vector<int> groups_;
};

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_RANDOM_GATHERS_H_
