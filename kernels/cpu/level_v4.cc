#include "kernels/cpu/level.h"

namespace zeromini::level_v4 {

constexpr int kVectorBytes = 64;
#include "kernels/cpu/algorithm_rules.inc"
#include "kernels/cpu/codec_kernels.inc"
#include "kernels/cpu/codec_state_kernels.inc"
#include "kernels/cpu/lane_kernels.inc"
// What needs lanes.
#include "kernels/cpu/column_kernels.inc"
#include "kernels/cpu/factored_kernels.inc"

}  // namespace zeromini::level_v4
