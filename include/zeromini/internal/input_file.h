// InputFile: an open regular file, as every reader of this project opens one.

#ifndef ZEROMINI_INTERNAL_INPUT_FILE_H_
#define ZEROMINI_INTERNAL_INPUT_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace zeromini {

// Move-only. Reading is thread-safe.
class InputFile {
 public:
  // Follows links. Never waits: a folder, pipe, device or socket is refused by
  // its kind before it is opened. NotFound, PermissionDenied,
  // InvalidArgument or ResourceExhausted (descriptors), naming the path.
  static absl::StatusOr<InputFile> Open(const std::string& path);

  ~InputFile();
  InputFile(InputFile&& other) noexcept;
  InputFile& operator=(InputFile&&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return size_; }  // When it was opened.
  int descriptor() const { return fd_; }  // Stays this object's.

  // Exactly `bytes` bytes from `offset` on; InvalidArgument if there are fewer.
  // The message leaves the path to the caller.
  absl::Status ReadAt(int64_t offset, int64_t bytes, void* out) const;

  // The whole file. InvalidArgument, naming the path and both numbers, if it
  // has more than `max_bytes`.
  absl::StatusOr<std::string> ReadAll(int64_t max_bytes) const;

 private:
  InputFile(std::string path, int fd, int64_t size);

  std::string path_;
  int fd_;
  int64_t size_;
};

// "folder", "pipe", "device" or "socket"; null for a regular file. `mode` is
// what stat() gave.
const char* SpecialFileKind(unsigned mode);

}  // namespace zeromini

#endif  // ZEROMINI_INTERNAL_INPUT_FILE_H_
