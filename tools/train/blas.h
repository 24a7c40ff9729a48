// Which BLAS the process multiplies matrices with.

#ifndef ZEROMINI_TOOLS_TRAIN_BLAS_H_
#define ZEROMINI_TOOLS_TRAIN_BLAS_H_

#include <string>

namespace zeromini::tools {

struct BlasInfo {
  std::string name;     // "OpenBLAS", "reference BLAS", "MKL", "unknown".
  std::string library;  // The file that sgemm_ comes from.
  std::string detail;   // OpenBLAS: version, processor, threads. May be empty.
  bool slow = false;    // The unoptimised reference.
};

BlasInfo FindBlas();

// From the file name alone.
std::string BlasNameOf(const std::string& library);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_BLAS_H_
