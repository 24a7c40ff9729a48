// Walks over an optimizer's parameters as a trainer's passes do.

#ifndef ZEROMINI_TOOLS_LAYER_WALK_H_
#define ZEROMINI_TOOLS_LAYER_WALK_H_

#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "zeromini/optimizer.h"

namespace zeromini::tools {

class LayerWalk {
 public:
  explicit LayerWalk(Optimizer& optimizer) : optimizer_(optimizer) {}

  // Blocks until the weights of `param` can be computed with. At stage 3 it is
  // collective: it lets go of the layer set that the walk leaves, if that is a
  // layer's, and gathers the one it enters. Below, what is in place for forward
  // is in place for backward, too.
  absl::Status Enter(int param, GatherPass pass);

 private:
  Optimizer& optimizer_;
  int layer_set_ = kNoLayerSet;
};

// What a walk has gathered at most: what is outside of the layers and the two
// largest layers, one in use and one on its way. 0 below stage 3.
absl::StatusOr<int64_t> GatherBudget(const std::vector<ParamSpec>& params,
                                     const OptimizerOptions& options,
                                     int ranks);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_LAYER_WALK_H_
