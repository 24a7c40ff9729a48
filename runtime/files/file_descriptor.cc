#include "zeromini/internal/file_descriptor.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace zeromini {

bool WriteAll(int fd, const void* data, int64_t bytes) {
  const char* from = static_cast<const char*>(data);
  while (bytes > 0) {
    const ssize_t put = write(fd, from, bytes);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return false;
    from += put;
    bytes -= put;
  }
  return true;
}

bool IsNamed(int fd, const std::string& path) {
  struct stat opened;
  struct stat named;
  return fstat(fd, &opened) == 0 && lstat(path.c_str(), &named) == 0 &&
         opened.st_ino == named.st_ino && opened.st_dev == named.st_dev;
}

absl::Status CannotBeWritten(const std::string& text, int error) {
  for (const int busy : {ENOSPC, EDQUOT, EMFILE, ENFILE, ENOMEM, EIO}) {
    if (error == busy) return absl::ResourceExhaustedError(text);
  }
  return absl::PermissionDeniedError(text);
}

}  // namespace zeromini
