#include "kernels/cpu/level.h"

namespace zeromini::level_v4 {

constexpr int kVectorBytes = 64;
#include "kernels/cpu/lane_kernels.inc"

}  // namespace zeromini::level_v4
