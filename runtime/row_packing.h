// Moves rows of a parameter between the caller's tensor and packed storage,
// where every row is contiguous whatever the tensor's own order is.

#ifndef ZEROMINI_RUNTIME_ROW_PACKING_H_
#define ZEROMINI_RUNTIME_ROW_PACKING_H_

#include <cstdint>

#include "zeromini/kernels.h"
#include "zeromini/plan.h"

namespace zeromini {

struct RowRange {
  int64_t first = 0;
  int64_t count = 0;
};

// packed = rows of tensor.
void PackRows(const KernelTable& kernels, const PlannedParam& param,
              RowRange rows, const float* tensor, float* packed, Stream stream);

// rows of tensor = packed.
void UnpackRows(const KernelTable& kernels, const PlannedParam& param,
                RowRange rows, const float* packed, float* tensor,
                Stream stream);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_ROW_PACKING_H_
