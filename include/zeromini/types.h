// Words that every layer shares: element types, reductions, purposes of bytes.

#ifndef ZEROMINI_TYPES_H_
#define ZEROMINI_TYPES_H_

#include <cstdint>

namespace zeromini {

enum class DType { kFloat32, kBFloat16, kFloat16, kInt64, kByte };

inline int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return 4;
    case DType::kBFloat16:
    case DType::kFloat16:
      return 2;
    case DType::kInt64:
      return 8;
    case DType::kByte:
      return 1;
  }
  return 0;
}

const char* DTypeName(DType dtype);  // "fp32", "bf16", "fp16", "int64", "byte".

enum class ReduceOp { kSum, kMax, kMin };

// What a byte on the wire is for. Padding is counted beside its purpose: it is
// the part of an exchange's segments that carries no element of any tensor.
enum class Purpose { kGradients, kWeights, kScalars, kState, kControl };
inline constexpr int kPurposes = 5;
const char* PurposeName(Purpose purpose);

}  // namespace zeromini

#endif  // ZEROMINI_TYPES_H_
