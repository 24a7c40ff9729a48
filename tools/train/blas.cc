#include "tools/train/blas.h"

#include <dlfcn.h>

#include <climits>
#include <cstdlib>

#include "absl/strings/match.h"

namespace zeromini::tools {

std::string BlasNameOf(const std::string& library) {
  if (absl::StrContains(library, "openblas")) return "OpenBLAS";
  if (absl::StrContains(library, "mkl")) return "MKL";
  if (absl::StrContains(library, "blis")) return "BLIS";
  if (absl::StrContains(library, "atlas")) return "ATLAS";
  if (absl::StrContains(library, "libblas")) return "reference BLAS";
  return "unknown";
}

BlasInfo FindBlas() {
  BlasInfo info;
  info.name = "unknown";
  // The symbol LibTorch itself resolves to: several BLAS can be loaded at once.
  void* symbol = dlsym(RTLD_DEFAULT, "sgemm_");
  Dl_info where = {};
  if (symbol == nullptr || dladdr(symbol, &where) == 0 ||
      where.dli_fname == nullptr) {
    return info;
  }
  char resolved[PATH_MAX];
  const char* real = realpath(where.dli_fname, resolved);
  info.library = real != nullptr ? real : where.dli_fname;
  info.name = BlasNameOf(info.library);
  info.slow = info.name == "reference BLAS";
  if (info.name != "OpenBLAS") return info;
  void* config = dlsym(RTLD_DEFAULT, "openblas_get_config");
  if (config != nullptr) {
    info.detail = reinterpret_cast<char* (*)()>(config)();
  }
  return info;
}

}  // namespace zeromini::tools
