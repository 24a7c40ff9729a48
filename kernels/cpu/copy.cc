#include <cstring>

#include "kernels/cpu/level.h"
#include "zeromini/internal/check.h"
#include "zeromini/internal/half.h"

namespace zeromini {
namespace {

// A tile of each side stays in the first-level cache: 2 * 32 * 32 floats.
constexpr int64_t kTile = 32;

struct Keep {
  template <typename Element>
  static Element Convert(Element element) {
    return element;
  }
};

struct WidenBFloat16 {
  static float Convert(uint16_t bits) { return FromBFloat16(bits); }
};

struct WidenFloat16 {
  static float Convert(uint16_t bits) { return FromFloat16(bits); }
};

template <typename Conversion, typename In, typename Out>
void Transpose(const CopyArgs& args, const In* in, Out* out) {
  for (int64_t r0 = 0; r0 < args.rows; r0 += kTile) {
    const int64_t r1 = r0 + kTile < args.rows ? r0 + kTile : args.rows;
    for (int64_t c0 = 0; c0 < args.columns; c0 += kTile) {
      const int64_t c1 = c0 + kTile < args.columns ? c0 + kTile : args.columns;
      for (int64_t c = c0; c < c1; ++c) {
        for (int64_t r = r0; r < r1; ++r) {
          out[c * args.out_stride + r] =
              Conversion::Convert(in[r * args.in_stride + c]);
        }
      }
    }
  }
}

template <typename Element>
void CopyElements(Keep, const Element* in, int64_t elements, Element* out) {
  if (elements == 0) return;  // Empty arrays may be null.
  std::memcpy(out, in, static_cast<size_t>(elements) * sizeof(Element));
}

template <typename Conversion>
void CopyElements(Conversion, const uint16_t* __restrict in, int64_t elements,
                  float* __restrict out) {
  for (int64_t i = 0; i < elements; ++i) out[i] = Conversion::Convert(in[i]);
}

template <typename Conversion, typename In, typename Out>
void Copy(const CopyArgs& args) {
  const In* in = static_cast<const In*>(args.in);
  Out* out = static_cast<Out*>(args.out);
  if (args.transpose) {
    Transpose<Conversion>(args, in, out);
  } else if (args.in_stride == args.columns &&
             args.out_stride == args.columns) {
    CopyElements(Conversion(), in, args.rows * args.columns, out);
  } else {
    for (int64_t r = 0; r < args.rows; ++r) {
      CopyElements(Conversion(), in + r * args.in_stride, args.columns,
                   out + r * args.out_stride);
    }
  }
}

}  // namespace

void CopyOnCpu(const CopyArgs& args) {
  const bool keeps = args.in_dtype == args.out_dtype;
  ZEROMINI_CHECK(keeps || args.out_dtype == DType::kFloat32);
  switch (args.in_dtype) {
    case DType::kFloat32:
      return Copy<Keep, float, float>(args);
    case DType::kBFloat16:
      return keeps ? Copy<Keep, uint16_t, uint16_t>(args)
                   : Copy<WidenBFloat16, uint16_t, float>(args);
    case DType::kFloat16:
      return keeps ? Copy<Keep, uint16_t, uint16_t>(args)
                   : Copy<WidenFloat16, uint16_t, float>(args);
    case DType::kInt64:
    case DType::kByte:
      break;
  }
  ZEROMINI_CHECK(!"copies are of fp32, bf16 or fp16");
}

}  // namespace zeromini
