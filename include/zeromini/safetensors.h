// Safetensors: named tensors in one file, readable by other tools. The format:
// an 8-byte little-endian length, that many bytes of JSON, then the tensors.
//
// A file is untrusted: every field of its header is checked when it is opened,
// so that what a reader lists can be read. Messages name file and tensor.

#ifndef ZEROMINI_SAFETENSORS_H_
#define ZEROMINI_SAFETENSORS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace zeromini {

// Every element type of the format, so that a file is not refused for a tensor
// that nobody asks for.
enum class TensorFormat {
  kF32,
  kF64,
  kBF16,
  kF16,
  kI64,
  kI32,
  kI16,
  kI8,
  kU64,
  kU32,
  kU16,
  kU8,
  kBool,
  kC64,
  kF8E4M3,
  kF8E5M2,
  kF8E8M0,
  kF6E2M3,
  kF6E3M2,
  kF4
};
const char* TensorFormatName(TensorFormat format);  // "F32" and so on.
int64_t TensorFormatBits(TensorFormat format);      // Of one element.
int64_t TensorFormatSize(TensorFormat format);      // In bytes; 0 below one.

struct TensorInfo {
  std::string name;
  TensorFormat format = TensorFormat::kF32;
  std::vector<int64_t> shape;  // Empty for a scalar.
  int64_t elements = 1;
  int64_t offset = 0;  // In bytes, from the first tensor's first byte.
  int64_t bytes() const { return elements * TensorFormatBits(format) / 8; }
};

// An open file. Reading is thread-safe.
class SafetensorsReader {
 public:
  virtual ~SafetensorsReader() = default;  // Closes the file.

  // Reads and checks the header only. NotFound if there is no such file;
  // InvalidArgument, naming the tensor, for anything that is not exactly the
  // format: truncation, trailing bytes, overlaps, gaps, unknown element types,
  // duplicate names, shapes whose product overflows or differs from the bytes.
  static absl::StatusOr<std::unique_ptr<SafetensorsReader>> Open(
      const std::string& path);

  virtual const std::string& path() const = 0;
  virtual const std::vector<TensorInfo>& tensors() const = 0;  // As they lie.
  virtual const std::map<std::string, std::string>& metadata() const = 0;
  virtual const TensorInfo* Find(
      const std::string& name) const = 0;  // Or null.

  // `bytes` bytes of a tensor from its byte `first` on. OutOfRange if that is
  // not inside the tensor.
  virtual absl::Status ReadBytes(const TensorInfo& tensor, int64_t first,
                                 int64_t bytes, void* out) const = 0;

  // A whole F32 tensor of that very shape. NotFound or InvalidArgument if it is
  // absent or something else.
  absl::StatusOr<std::vector<float>> ReadF32(
      const std::string& name, absl::Span<const int64_t> shape) const;
};

// One tensor to be written. Points to memory of the caller.
struct TensorToWrite {
  std::string name;
  TensorFormat format = TensorFormat::kF32;
  std::vector<int64_t> shape;
  const void* data = nullptr;
};

// Writes `path` in one piece: to a file beside it, synced, then renamed over
// it, so that a crash leaves the old file or the new one. Tensors lie in the
// order of the span. InvalidArgument for a duplicate name or a bad shape.
absl::Status WriteSafetensors(
    const std::string& path, absl::Span<const TensorToWrite> tensors,
    const std::map<std::string, std::string>& metadata = {});

}  // namespace zeromini

#endif  // ZEROMINI_SAFETENSORS_H_
