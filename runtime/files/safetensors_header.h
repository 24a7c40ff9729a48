// The JSON header of a safetensors file, checked field by field.

#ifndef ZEROMINI_RUNTIME_FILES_SAFETENSORS_HEADER_H_
#define ZEROMINI_RUNTIME_FILES_SAFETENSORS_HEADER_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "zeromini/safetensors.h"

namespace zeromini {

struct SafetensorsHeader {
  std::vector<TensorInfo> tensors;  // By offset; they cover the data exactly.
  std::map<std::string, std::string> metadata;
};

// `data_bytes` is what the file holds after the header. InvalidArgument, naming
// the tensor, for everything that SafetensorsReader::Open() refuses.
absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(
    const std::string& text, int64_t data_bytes);

// The header for these tensors, padded so that the data is aligned to 8 bytes.
absl::StatusOr<std::string> SafetensorsHeaderText(
    absl::Span<const TensorToWrite> tensors,
    const std::map<std::string, std::string>& metadata);

// The product of a shape; -1 if a size is negative, the bits overflow, or they
// make no whole bytes.
int64_t ElementCount(absl::Span<const int64_t> shape, TensorFormat format);

// For a shape that ElementCount() counts.
int64_t TensorBytes(absl::Span<const int64_t> shape, TensorFormat format);

// InvalidArgument: tensor "name": what
absl::Status BadTensor(const std::string& tensor, const std::string& what);

}  // namespace zeromini

#endif  // ZEROMINI_RUNTIME_FILES_SAFETENSORS_HEADER_H_
