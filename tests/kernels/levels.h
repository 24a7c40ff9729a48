// The tables that this processor can run.

#ifndef ZEROMINI_TESTS_KERNELS_LEVELS_H_
#define ZEROMINI_TESTS_KERNELS_LEVELS_H_

#include <vector>

#include "zeromini/kernels.h"

namespace zeromini {

// Lowest level first.
inline std::vector<const KernelTable*> AttainableTables() {
  std::vector<const KernelTable*> tables;
  for (const char* name : {"portable", "x86-64", "x86-64-v3", "x86-64-v4"}) {
    if (const KernelTable* table = CpuKernelsAt(name)) tables.push_back(table);
  }
  return tables;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_KERNELS_LEVELS_H_
