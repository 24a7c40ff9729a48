// Moves rows of a parameter between the caller's tensor and packed storage,
// where every row is contiguous whatever the tensor's own order is.

#ifndef ZEROMINI_RUNTIME_DEVICE_ROW_PACKING_H_
#define ZEROMINI_RUNTIME_DEVICE_ROW_PACKING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "shard/units.h"
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

// Rows `rows` of a tensor shaped as `param`.
struct RowCopy {
  const PlannedParam& param;
  RowRange rows;
  const void* from;
  void* to;
  CopyTypes types;
  const StepScalars* only_if = nullptr;  // See CopyArgs.
};

// to = from, both contiguous.
absl::Status CopyContiguous(const KernelTable& kernels, const void* from,
                            void* to, int64_t elements, CopyTypes types,
                            Stream stream);

// `from` is the tensor, `to` gets its rows packed.
absl::Status PackRows(const KernelTable& kernels, const RowCopy& copy,
                      Stream stream);

// `from` are packed rows, `to` is the tensor. Types are equal.
absl::Status UnpackRows(const KernelTable& kernels, const RowCopy& copy,
                        Stream stream);

// Element `index` of an array of `dtype`; null stays null.
inline void* ElementAt(void* array, int64_t index, DType dtype) {
  return array == nullptr ? nullptr
                          : static_cast<char*>(array) + index * SizeOf(dtype);
}
inline const void* ElementAt(const void* array, int64_t index, DType dtype) {
  return ElementAt(const_cast<void*>(array), index, dtype);
}

inline int64_t TensorBytes(const PlannedParam& param) {
  return Elements(param) * SizeOf(param.dtype);
}

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_DEVICE_ROW_PACKING_H_
