#include "kernels/cpu/level.h"

namespace zeromini {
namespace {

constexpr Level kLevels[] = {
    {"portable", "portable (128-bit vectors)", level_base::Kernels}};

}  // namespace

LevelList AttainableLevels() { return {kLevels, 1}; }

}  // namespace zeromini
