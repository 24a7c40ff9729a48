#include "kernels/cpu/level.h"
#include "kernels/host_table.h"

namespace zeromini {
namespace {

constexpr Level kLevels[] = {{"portable", "portable (128-bit vectors)",
                              HostTable<level_base::kKernels>::Named("cpu")}};

}  // namespace

LevelList AttainableLevels() { return {kLevels, 1}; }

}  // namespace zeromini
