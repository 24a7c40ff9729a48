// Words that every layer shares: devices, element types, reductions, purposes
// of bytes.

#ifndef ZEROMINI_TYPES_H_
#define ZEROMINI_TYPES_H_

#include <cstdint>

namespace zeromini {

// Whose memory a tensor lies in, and whose work a stream runs.
enum class DeviceKind { kHost, kCuda };

inline const char* DeviceKindName(DeviceKind device) {
  switch (device) {
    case DeviceKind::kHost:
      return "host";
    case DeviceKind::kCuda:
      return "cuda";
  }
  return "unknown";
}

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

inline const char* DTypeName(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "fp32";
    case DType::kBFloat16:
      return "bf16";
    case DType::kFloat16:
      return "fp16";
    case DType::kInt64:
      return "int64";
    case DType::kByte:
      return "byte";
  }
  return "unknown";
}

// What restores the fp32 master of a 16-bit weight. The update always goes to
// the master; the weight is what is left of it after rounding to nearest, ties
// away from zero.
enum class MasterFormat {
  // 2 bytes in all. bf16 rounds stochastically, so that small updates count on
  // average; fp16 to nearest, so that they are lost.
  kNone,
  kFloat32,  // 4 bytes more: the master itself.
  // 2 bytes more, beside bf16: the low half of the fp32 pattern, of which bf16
  // is the high one. Restores every bit.
  kRemainder16,
  // 1 byte more, beside bf16: the rounding error in 127ths of half an ulp of
  // the weight (FlashOptim, arXiv 2602.23349, section 3.1). Relative error of
  // the restored master at most 2^-15.9, while it is a normal number.
  kRemainder8,
};
inline const char* MasterFormatName(MasterFormat format) {
  switch (format) {
    case MasterFormat::kNone:
      return "none";
    case MasterFormat::kFloat32:
      return "fp32";
    case MasterFormat::kRemainder16:
      return "remainder16";
    case MasterFormat::kRemainder8:
      return "remainder8";
  }
  return "unknown";
}

// What momentum, and second moments that are kept per element, are stored as.
// Block scalars are always fp32.
enum class StateFormat {
  kFloat32,
  kBFloat16,  // Rounded stochastically.
  // 1 byte, and 2 more for each group of kStateGroup elements of a row, the
  // last group of a row possibly shorter: the largest magnitude of the group as
  // bf16, rounded up. With x = value / largest, momentum is stored as
  // 127 * 2x / (1 + |x|), a second moment as 255 * sqrt(x), both rounded to
  // nearest, but no second moment other than 0 to 0 (FlashOptim, arXiv
  // 2602.23349, section 3.2). Its scales are fp16; ours are bf16, since momenta
  // below 6e-8 would vanish in fp16.
  kInt8,
};
inline const char* StateFormatName(StateFormat format) {
  switch (format) {
    case StateFormat::kFloat32:
      return "fp32";
    case StateFormat::kBFloat16:
      return "bf16";
    case StateFormat::kInt8:
      return "int8";
  }
  return "unknown";
}
inline constexpr int64_t kStateGroup = 32;

enum class ReduceOp { kSum, kMax, kMin };

// What a byte on the wire is for. Padding is counted beside its purpose: it is
// the part of an exchange's segments that carries no element of any tensor.
enum class Purpose { kGradients, kWeights, kScalars, kState, kControl };
inline constexpr int kPurposes = 5;
const char* PurposeName(Purpose purpose);

enum class MemoryForm {
  kExternal,  // Weights live where ParamSpec::data says.
  kFlat,      // The optimizer owns weights (and at stage 1 gradients), laid out
              // so that buckets that are cut in place need no copy. They start
              // as ParamSpec::data, or as zeros where that is null.
};

}  // namespace zeromini

#endif  // ZEROMINI_TYPES_H_
