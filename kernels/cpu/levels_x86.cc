#include "kernels/cpu/level.h"
#include "kernels/host_table.h"

namespace zeromini {
namespace {

constexpr Level kLevels[] = {
    {"x86-64-v4", "x86-64-v4 (AVX-512)",
     HostTable<level_v4::kKernels>::Named("cpu")},
    {"x86-64-v3", "x86-64-v3 (AVX2)",
     HostTable<level_v3::kKernels>::Named("cpu")},
    {"x86-64", "x86-64 (SSE2)", HostTable<level_base::kKernels>::Named("cpu")},
};

}  // namespace

LevelList AttainableLevels() {
  int skipped = 0;
  if (!__builtin_cpu_supports("avx512f") ||
      !__builtin_cpu_supports("avx512bw") ||
      !__builtin_cpu_supports("avx512cd") ||
      !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl")) {
    skipped = 1;
  }
  if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("bmi") ||
      !__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("fma")) {
    skipped = 2;
  }
  return {kLevels + skipped, 3 - skipped};
}

}  // namespace zeromini
