#include <cstring>

#include "kernels/cpu/level.h"

namespace zeromini {
namespace {

// A tile of each side stays in the first-level cache: 2 * 32 * 32 floats.
constexpr int64_t kTile = 32;

void Transpose(const CopyArgs& args) {
  for (int64_t r0 = 0; r0 < args.rows; r0 += kTile) {
    const int64_t r1 = r0 + kTile < args.rows ? r0 + kTile : args.rows;
    for (int64_t c0 = 0; c0 < args.columns; c0 += kTile) {
      const int64_t c1 = c0 + kTile < args.columns ? c0 + kTile : args.columns;
      for (int64_t c = c0; c < c1; ++c) {
        for (int64_t r = r0; r < r1; ++r) {
          args.out[c * args.out_stride + r] = args.in[r * args.in_stride + c];
        }
      }
    }
  }
}

void CopyElements(float* out, const float* in, int64_t elements) {
  if (elements == 0) return;  // Empty arrays may be null.
  std::memcpy(out, in, static_cast<size_t>(elements) * sizeof(float));
}

}  // namespace

void CopyOnCpu(const CopyArgs& args, Stream) {
  if (args.transpose) {
    Transpose(args);
  } else if (args.in_stride == args.columns &&
             args.out_stride == args.columns) {
    CopyElements(args.out, args.in, args.rows * args.columns);
  } else {
    for (int64_t r = 0; r < args.rows; ++r) {
      CopyElements(args.out + r * args.out_stride, args.in + r * args.in_stride,
                   args.columns);
    }
  }
}

}  // namespace zeromini
