#include "comm/rank_order_reduce.h"

#include <algorithm>
#include <cstring>

#include "zeromini/internal/check.h"
#include "zeromini/internal/half.h"

namespace zeromini {
namespace {

// Small enough for the first-level cache, and a constant, so that compilers
// vectorise the full blocks at -O2.
constexpr int64_t kBlock = 1024;

struct Add {
  template <typename T>
  T operator()(T a, T b) const {
    return static_cast<T>(a + b);
  }
};
struct Max {
  template <typename T>
  T operator()(T a, T b) const {
    return b > a || b != b ? b : a;
  }
};
struct Min {
  template <typename T>
  T operator()(T a, T b) const {
    return b < a || b != b ? b : a;
  }
};

// How a stored element becomes one that is added, and back.
template <typename T>
struct Plain {
  using Stored = T;
  using Wide = T;
  static T Load(T value) { return value; }
  static T Store(T value) { return value; }
};
struct BFloat16 {
  using Stored = uint16_t;
  using Wide = float;
  static float Load(uint16_t bits) { return FromBFloat16(bits); }
  static uint16_t Store(float value) { return ToBFloat16(value); }
};
struct Float16 {
  using Stored = uint16_t;
  using Wide = float;
  static float Load(uint16_t bits) { return FromFloat16(bits); }
  static uint16_t Store(float value) { return ToFloat16(value); }
};

// kCount is kBlock, or 0 where only `count` knows.
template <typename Format, typename Op, int64_t kCount>
inline void FoldIn(const typename Format::Stored* __restrict source,
                   typename Format::Wide* __restrict sum, int64_t count) {
  const int64_t n = kCount > 0 ? kCount : count;
  for (int64_t i = 0; i < n; ++i) {
    sum[i] = Op()(sum[i], Format::Load(source[i]));
  }
}

template <typename Format, typename Op, int64_t kCount>
inline void ReduceBlock(absl::Span<const void* const> sources, void* out,
                        int64_t begin, int64_t count) {
  using Stored = typename Format::Stored;
  const int64_t n = kCount > 0 ? kCount : count;
  // Summed aside because `out` may be a source that is yet to be read.
  typename Format::Wide sum[kBlock];
  const Stored* first = static_cast<const Stored*>(sources[0]) + begin;
  for (int64_t i = 0; i < n; ++i) sum[i] = Format::Load(first[i]);
  for (size_t s = 1; s < sources.size(); ++s) {
    const Stored* source = static_cast<const Stored*>(sources[s]) + begin;
    FoldIn<Format, Op, kCount>(source, sum, count);
  }
  Stored* result = static_cast<Stored*>(out) + begin;
  for (int64_t i = 0; i < n; ++i) result[i] = Format::Store(sum[i]);
}

template <typename Format, typename Op>
void ReduceAll(absl::Span<const void* const> sources, void* out,
               int64_t count) {
  int64_t begin = 0;
  for (; begin + kBlock <= count; begin += kBlock) {
    ReduceBlock<Format, Op, kBlock>(sources, out, begin, kBlock);
  }
  ReduceBlock<Format, Op, 0>(sources, out, begin, count - begin);
}

template <typename Format>
void ReduceBy(ReduceOp op, absl::Span<const void* const> sources, void* out,
              int64_t count) {
  switch (op) {
    case ReduceOp::kSum:
      return ReduceAll<Format, Add>(sources, out, count);
    case ReduceOp::kMax:
      return ReduceAll<Format, Max>(sources, out, count);
    case ReduceOp::kMin:
      return ReduceAll<Format, Min>(sources, out, count);
  }
}

template <int64_t kCount>
void AddWireBlock(const WireSource& source, int64_t begin, int64_t count,
                  float* sum) {
  if (source.dtype == DType::kBFloat16) {
    const uint16_t* data = static_cast<const uint16_t*>(source.data) + begin;
    FoldIn<BFloat16, Add, kCount>(data, sum, count);
  } else {
    const float* data = static_cast<const float*>(source.data) + begin;
    FoldIn<Plain<float>, Add, kCount>(data, sum, count);
  }
}

template <int64_t kCount>
void ReduceWireBlock(absl::Span<const WireSource> sources, float* out,
                     int64_t begin, int64_t count) {
  // Summed aside because `out` may be a source that is yet to be read.
  float sum[kBlock];
  const int64_t n = kCount > 0 ? kCount : count;
  std::fill_n(sum, n, -0.0f);  // To which any x, -0 too, adds up to x.
  for (const WireSource& source : sources) {
    AddWireBlock<kCount>(source, begin, count, sum);
  }
  std::copy_n(sum, n, out + begin);
}

template <int64_t kCount>
void RoundBlock(const float* __restrict in, uint16_t* __restrict out,
                int64_t count) {
  const int64_t n = kCount > 0 ? kCount : count;
  for (int64_t i = 0; i < n; ++i) out[i] = ToBFloat16(in[i]);
}

template <int64_t kCount>
void WidenBlock(const uint16_t* __restrict in, float* __restrict out,
                int64_t count) {
  const int64_t n = kCount > 0 ? kCount : count;
  for (int64_t i = 0; i < n; ++i) out[i] = FromBFloat16(in[i]);
}

// Max and min of int64 compare as signed; sums wrap, hence unsigned.
void ReduceInt64(ReduceOp op, absl::Span<const void* const> sources, void* out,
                 int64_t count) {
  if (op == ReduceOp::kSum) {
    ReduceBy<Plain<uint64_t>>(op, sources, out, count);
  } else {
    ReduceBy<Plain<int64_t>>(op, sources, out, count);
  }
}

}  // namespace

void ReduceInRankOrder(absl::Span<const void* const> sources, void* out,
                       int64_t count, DType dtype, ReduceOp op) {
  ZEROMINI_CHECK(!sources.empty());
  if (count == 0) return;
  switch (dtype) {
    case DType::kFloat32:
      return ReduceBy<Plain<float>>(op, sources, out, count);
    case DType::kBFloat16:
      return ReduceBy<BFloat16>(op, sources, out, count);
    case DType::kFloat16:
      return ReduceBy<Float16>(op, sources, out, count);
    case DType::kInt64:
      return ReduceInt64(op, sources, out, count);
    case DType::kByte:
      return ReduceBy<Plain<uint8_t>>(op, sources, out, count);
  }
}

void ReduceWire(absl::Span<const WireSource> sources, float* out,
                int64_t count) {
  ZEROMINI_CHECK(!sources.empty());
  int64_t begin = 0;
  for (; begin + kBlock <= count; begin += kBlock) {
    ReduceWireBlock<kBlock>(sources, out, begin, kBlock);
  }
  ReduceWireBlock<0>(sources, out, begin, count - begin);
}

void RoundToWire(const float* in, void* out, int64_t count, DType wire) {
  if (wire == DType::kFloat32) {
    std::copy_n(in, count, static_cast<float*>(out));
    return;
  }
  ZEROMINI_CHECK(wire == DType::kBFloat16);
  uint16_t* bits = static_cast<uint16_t*>(out);
  int64_t begin = 0;
  for (; begin + kBlock <= count; begin += kBlock) {
    RoundBlock<kBlock>(in + begin, bits + begin, kBlock);
  }
  RoundBlock<0>(in + begin, bits + begin, count - begin);
}

void WidenFromWire(const void* in, float* out, int64_t count, DType wire) {
  if (wire == DType::kFloat32) {
    std::copy_n(static_cast<const float*>(in), count, out);
    return;
  }
  ZEROMINI_CHECK(wire == DType::kBFloat16);
  const uint16_t* bits = static_cast<const uint16_t*>(in);
  int64_t begin = 0;
  for (; begin + kBlock <= count; begin += kBlock) {
    WidenBlock<kBlock>(bits + begin, out + begin, kBlock);
  }
  WidenBlock<0>(bits + begin, out + begin, count - begin);
}

void RoundThroughWire(const float* in, float* out, int64_t count, DType wire) {
  if (wire == DType::kFloat32) {
    if (in != out) std::copy_n(in, count, out);
    return;
  }
  uint16_t bits[kBlock];
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t length = std::min(kBlock, count - begin);
    RoundToWire(in + begin, bits, length, wire);
    WidenFromWire(bits, out + begin, length, wire);
  }
}

}  // namespace zeromini
