#include <cstring>

#include "kernels/cpu/level.h"
#include "zeromini/kernels.h"

namespace zeromini {

const KernelTable& CpuKernels() { return AttainableLevels().levels->kernels; }

const char* CpuLevel() { return AttainableLevels().levels->description; }

const KernelTable* CpuKernelsAt(const char* level) {
  const LevelList list = AttainableLevels();
  for (int i = 0; i < list.count; ++i) {
    if (std::strcmp(list.levels[i].name, level) == 0) {
      return &list.levels[i].kernels;
    }
  }
  return nullptr;
}

}  // namespace zeromini
