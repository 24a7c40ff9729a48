// Compares files of tensors, for tests.

#ifndef ZEROMINI_TESTS_SUPPORT_TENSOR_FILES_H_
#define ZEROMINI_TESTS_SUPPORT_TENSOR_FILES_H_

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "zeromini/internal/status_macros.h"
#include "zeromini/safetensors.h"

namespace zeromini {

struct TensorDifference {
  std::string worst_tensor;
  double absolute = 0;  // Largest |a - b|; infinite for a NaN.
  double relative = 0;  // Largest |a - b| over the largest |b| of its tensor.
};

// InvalidArgument unless both files hold the same names and shapes.
inline absl::StatusOr<TensorDifference> CompareTensorFiles(
    const std::string& actual, const std::string& expected) {
  ZEROMINI_ASSIGN_OR_RETURN(const auto a, SafetensorsReader::Open(actual));
  ZEROMINI_ASSIGN_OR_RETURN(const auto b, SafetensorsReader::Open(expected));
  if (a->tensors().size() != b->tensors().size()) {
    return absl::InvalidArgumentError(
        actual + " has " + std::to_string(a->tensors().size()) + " tensors, " +
        expected + " has " + std::to_string(b->tensors().size()));
  }
  TensorDifference difference;
  for (const TensorInfo& tensor : b->tensors()) {
    ZEROMINI_ASSIGN_OR_RETURN(const auto x,
                              a->ReadF32(tensor.name, tensor.shape));
    ZEROMINI_ASSIGN_OR_RETURN(const auto y,
                              b->ReadF32(tensor.name, tensor.shape));
    double largest = 0;
    double absolute = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double gap = std::abs(static_cast<double>(x[i]) - y[i]);
      absolute = std::isnan(gap) ? INFINITY : std::max(absolute, gap);
      largest = std::max(largest, std::abs(static_cast<double>(y[i])));
    }
    if (absolute > difference.absolute) {
      difference.absolute = absolute;
      difference.worst_tensor = tensor.name;
    }
    if (absolute > 0) {
      difference.relative = std::max(difference.relative, absolute / largest);
    }
  }
  return difference;
}

}  // namespace zeromini

#endif  // ZEROMINI_TESTS_SUPPORT_TENSOR_FILES_H_
