#include "tools/bench_streams.h"

#if defined(__x86_64__)
#define ZEROMINI_WIDEST \
  __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define ZEROMINI_WIDEST
#endif

namespace zeromini::tools {
namespace {

typedef float Vector __attribute__((vector_size(64)));
constexpr int kVector = 16;

// As in the kernels, or this would be no ceiling for them: of the arrays that
// are written, and this far ahead.
constexpr int64_t kPrefetchBytes = 2048;

inline __attribute__((always_inline)) void Prefetch(const float* at) {
  __builtin_prefetch(reinterpret_cast<const char*>(at) + kPrefetchBytes);
}

}  // namespace

ZEROMINI_WIDEST void Rmw5(const float* read, float* a, float* b,
                          int64_t elements) {
  for (int64_t i = 0; i < elements; i += kVector) {
    Prefetch(a + i);
    Prefetch(b + i);
    Vector r, x, y;
    __builtin_memcpy(&r, read + i, sizeof(r));
    __builtin_memcpy(&x, a + i, sizeof(x));
    __builtin_memcpy(&y, b + i, sizeof(y));
    x = x * 0.5f + r;
    y = y * 0.5f + r;
    __builtin_memcpy(a + i, &x, sizeof(x));
    __builtin_memcpy(b + i, &y, sizeof(y));
  }
}

ZEROMINI_WIDEST void Rmw7(const float* read, float* a, float* b, float* c,
                          int64_t elements) {
  for (int64_t i = 0; i < elements; i += kVector) {
    Prefetch(a + i);
    Prefetch(b + i);
    Prefetch(c + i);
    Vector r, x, y, z;
    __builtin_memcpy(&r, read + i, sizeof(r));
    __builtin_memcpy(&x, a + i, sizeof(x));
    __builtin_memcpy(&y, b + i, sizeof(y));
    __builtin_memcpy(&z, c + i, sizeof(z));
    x = x * 0.5f + r;
    y = y * 0.5f + r;
    z = z * 0.5f + r;
    __builtin_memcpy(a + i, &x, sizeof(x));
    __builtin_memcpy(b + i, &y, sizeof(y));
    __builtin_memcpy(c + i, &z, sizeof(z));
  }
}

}  // namespace zeromini::tools
