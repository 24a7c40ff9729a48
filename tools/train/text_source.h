// TextSource: the bytes of a text file, read where they lie.

#ifndef ZEROMINI_TOOLS_TRAIN_TEXT_SOURCE_H_
#define ZEROMINI_TOOLS_TRAIN_TEXT_SOURCE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace zeromini::tools {

// A .gz is unpacked into memory, so it must hold no more than this.
inline constexpr int64_t kLargestUnpacked = int64_t{1} << 30;

class TextSource {
 public:
  virtual ~TextSource() = default;

  // A plain file stays on disk and needs no memory, however large. The errors
  // of InputFile::Open(), DataLoss, ResourceExhausted (a .gz of more than
  // `largest_unpacked` bytes) and InvalidArgument (packed in another format)
  // name the file.
  static absl::StatusOr<std::unique_ptr<TextSource>> Open(
      const std::string& path, int64_t largest_unpacked = kLargestUnpacked);

  static std::unique_ptr<TextSource> FromBytes(std::string bytes);

  virtual int64_t size() const = 0;

  // Any thread. `offset` and `count` lie within size(). DataLoss, naming the
  // file, if the disk fails or somebody has cut the file meanwhile.
  virtual absl::Status ReadAt(int64_t offset, int64_t count,
                              char* out) const = 0;
};

// Of all bytes, which are read once: equal for equal texts, packed or not.
absl::StatusOr<uint64_t> HashOf(const TextSource& source);

}  // namespace zeromini::tools

#endif  // ZEROMINI_TOOLS_TRAIN_TEXT_SOURCE_H_
