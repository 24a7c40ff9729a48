// What an element takes in the formats of masters and state.

#ifndef ZEROMINI_INTERNAL_FORMAT_BYTES_H_
#define ZEROMINI_INTERNAL_FORMAT_BYTES_H_

#include <cstdint>

#include "zeromini/types.h"

namespace zeromini {

inline int64_t MasterBytes(MasterFormat format) {
  switch (format) {
    case MasterFormat::kNone:
      return 0;
    case MasterFormat::kFloat32:
      return 4;
    case MasterFormat::kRemainder16:
      return 2;
    case MasterFormat::kRemainder8:
      return 1;
  }
  return 0;
}

// Scales left out.
inline int64_t StateBytes(StateFormat format) {
  switch (format) {
    case StateFormat::kFloat32:
      return 4;
    case StateFormat::kBFloat16:
      return 2;
    case StateFormat::kInt8:
      return 1;
  }
  return 0;
}

// Scales of one row.
inline int64_t ScalesPerRow(StateFormat format, int64_t row_elements) {
  if (format != StateFormat::kInt8) return 0;
  return (row_elements + kStateGroup - 1) / kStateGroup;
}

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_FORMAT_BYTES_H_
