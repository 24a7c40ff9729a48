// Moves rows of a parameter between the caller's tensor and packed storage,
// where every row is contiguous whatever the tensor's own order is.

#ifndef ZEROMINI_RUNTIME_DEVICE_ROW_PACKING_H_
#define ZEROMINI_RUNTIME_DEVICE_ROW_PACKING_H_

#include <cstdint>

#include "zeromini/kernels.h"
#include "zeromini/plan.h"

namespace zeromini {

struct RowRange {
  int64_t first = 0;
  int64_t count = 0;
};

// What elements are before and after a copy: the same, or widened to fp32.
struct CopyTypes {
  DType in = DType::kFloat32;
  DType out = DType::kFloat32;
};

// out = in, both contiguous.
void CopyContiguous(const KernelTable& kernels, const void* in, void* out,
                    int64_t elements, CopyTypes types, Stream stream);

// packed = rows of tensor.
void PackRows(const KernelTable& kernels, const PlannedParam& param,
              RowRange rows, const void* tensor, void* packed, CopyTypes types,
              Stream stream);

// rows of tensor = packed, both of `dtype`.
void UnpackRows(const KernelTable& kernels, const PlannedParam& param,
                RowRange rows, const void* packed, void* tensor, DType dtype,
                Stream stream);

// Element `index` of an array of `dtype`; null stays null.
inline void* ElementAt(void* array, int64_t index, DType dtype) {
  return array == nullptr ? nullptr
                          : static_cast<char*>(array) + index * SizeOf(dtype);
}
inline const void* ElementAt(const void* array, int64_t index, DType dtype) {
  return ElementAt(const_cast<void*>(array), index, dtype);
}

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_DEVICE_ROW_PACKING_H_
