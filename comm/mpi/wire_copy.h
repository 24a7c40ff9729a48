// Elements on their way to the wire and back, whatever their type.

#ifndef ZEROMINI_COMM_MPI_WIRE_COPY_H_
#define ZEROMINI_COMM_MPI_WIRE_COPY_H_

#include <cstring>

#include "comm/rank_order_reduce.h"

namespace zeromini {

// `wire` is `dtype`, or what fp32 elements travel as.
inline void CopyToWire(const void* in, void* out, int64_t count, DType dtype,
                       DType wire) {
  if (wire == dtype) {
    std::memcpy(out, in, static_cast<size_t>(count * SizeOf(dtype)));
  } else {
    RoundToWire(static_cast<const float*>(in), out, count, wire);
  }
}

inline void CopyFromWire(const void* in, void* out, int64_t count, DType dtype,
                         DType wire) {
  if (wire == dtype) {
    std::memcpy(out, in, static_cast<size_t>(count * SizeOf(dtype)));
  } else {
    WidenFromWire(in, static_cast<float*>(out), count, wire);
  }
}

}  // namespace zeromini

#endif  // ZEROMINI_COMM_MPI_WIRE_COPY_H_
